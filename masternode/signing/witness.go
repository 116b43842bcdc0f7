package signing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
)

// Witness is a transparency log witness (C2SP tlog-witness) that is asked to cosign checkpoints.
type Witness struct {
	Name        string // in its key
	VerifierKey string // C2SP signed-note, of type 0x04 (Ed25519) or 0x06 (ML-DSA-44)
	URL         string // its submission prefix, without a slash at the end
	verifier    note.Verifier
}

// Types of a witness's key: the first byte of the key material (C2SP signed-note).
const (
	keyPlain        = 0x01
	keyCosignature  = 0x04
	keyCosignatureM = 0x06
)

// ParseWitness reads a witness in the form of the flag: its verifier key, a space, and its submission prefix, an http
// or https URL. The error wraps [masterfsm.ErrBadCommand].
func ParseWitness(text string) (Witness, error) {
	bad := func(format string, args ...any) (Witness, error) {
		// Only the name is printed: the URL may contain a password.
		name, _, named := strings.Cut(text, "+")
		if !named || strings.ContainsAny(name, " /@") {
			name = ""
		}
		return Witness{}, fmt.Errorf("%w: witness %.64q: %s", masterfsm.ErrBadCommand, name, fmt.Sprintf(format,
			args...))
	}
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return bad("give its verifier key and its URL, with a space between them, in quotes")
	}
	w := Witness{VerifierKey: fields[0], URL: strings.TrimRight(fields[1], "/")}
	parts := strings.SplitN(w.VerifierKey, "+", 3) // the key itself may hold a plus
	if len(parts) != 3 {
		return bad("a verifier key is NAME+ID+KEY")
	}
	w.Name = parts[0]
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) == 0 {
		return bad("the key is no base64")
	}
	switch key[0] {
	case keyCosignature, keyCosignatureM:
	case keyPlain:
		if meant, err := formats.VKeyToCosignatureV1(w.VerifierKey); err == nil {
			return bad("this is a key of plain signatures (type 0x01); as a key of cosignatures it is written %s",
				meant)
		}
		return bad("this is a key of plain signatures (type 0x01); cosignatures have keys of type 0x04 or 0x06")
	default:
		return bad("keys of type 0x%02x are not supported: cosignatures have keys of type 0x04 (Ed25519) or 0x06 "+
			"(ML-DSA-44)", key[0])
	}
	if err := masterfsm.CheckNoteName(w.Name); err != nil {
		return bad("its name cannot be used")
	}
	if w.verifier, err = formats.NewVerifierForCosignatureV1(w.VerifierKey); err != nil {
		return bad("its verifier key cannot be used: %v", err)
	}
	if id := fmt.Sprintf("%08x", w.verifier.KeyHash()); id != parts[1] {
		return bad("its key has the id %s, not %s: a character of the verifier key is wrong", id, parts[1])
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil:
		return bad("its URL cannot be read")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return bad("its URL must begin with http:// or https:// and a host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return bad("its URL has no user, query or fragment")
	}
	return w, nil
}

// ParseWitnesses reads witnesses with [ParseWitness] and checks them with [CheckWitnesses].
func ParseWitnesses(texts []string, quorum uint8) ([]Witness, error) {
	var list []Witness
	for _, text := range texts {
		w, err := ParseWitness(text)
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, CheckWitnesses(list, quorum)
}

// CheckWitnesses checks that each name and each key occurs once, and that there are enough witnesses for the quorum.
// The error wraps [masterfsm.ErrBadCommand].
func CheckWitnesses(list []Witness, quorum uint8) error {
	if len(list) > masterfsm.MaxWitnesses {
		return fmt.Errorf("%w: %d witnesses, %d are possible", masterfsm.ErrBadCommand, len(list),
			masterfsm.MaxWitnesses)
	}
	names, keys := map[string]bool{}, map[string]bool{}
	for i := range list {
		w := &list[i]
		if w.verifier == nil {
			return errors.New("signing: the witness was not made by ParseWitness")
		}
		key := strings.SplitN(w.VerifierKey, "+", 3)[2]
		// One key under two names would count twice.
		if names[w.Name] || keys[key] {
			return fmt.Errorf("%w: the witness %s, or its key, is named twice", masterfsm.ErrBadCommand, w.Name)
		}
		names[w.Name], keys[key] = true, true
	}
	if int(quorum) > len(list) {
		return fmt.Errorf("%w: a witness quorum of %d, and %d witnesses: no checkpoint would ever be shown",
			masterfsm.ErrBadCommand, quorum, len(list))
	}
	return nil
}

// errCosignature: a witness answered without a valid cosignature of its key.
var errCosignature = errors.New("the witness answered without a good cosignature of its key")

// Cosignature finds the witness's cosignature of a signed checkpoint in its answer. Signatures of other keys are
// ignored, as C2SP tlog-witness demands. The error wraps errCosignature.
func (w *Witness) Cosignature(checkpoint, answer []byte) (masterfsm.Cosignature, error) {
	text, _, found := strings.Cut(string(checkpoint), "\n\n")
	if !found {
		return masterfsm.Cosignature{}, errors.New("the checkpoint is no signed note")
	}
	opened, err := note.Open([]byte(text+"\n\n"+string(answer)), note.VerifierList(w.verifier))
	if err != nil {
		return masterfsm.Cosignature{}, fmt.Errorf("%w, %s: %w", errCosignature, w.VerifierKey, err)
	}
	if opened.Text != text+"\n" {
		return masterfsm.Cosignature{}, fmt.Errorf("%w: its answer holds an empty line", errCosignature)
	}
	signature := opened.Sigs[0]
	if at, err := formats.CoSigV1Timestamp(signature); err != nil || at.Unix() <= 0 ||
		at.Unix() > masterfsm.MaxTime/1000 {
		return masterfsm.Cosignature{}, fmt.Errorf("%w: it has no time, or one after the year 9999", errCosignature)
	}
	return masterfsm.Cosignature{Witness: w.Name, Line: "— " + signature.Name + " " + signature.Base64}, nil
}

// CosignedAt is the time in a cosignature, in unix milliseconds, 0 if it cannot be read.
func CosignedAt(c masterfsm.Cosignature) uint64 {
	at, err := formats.CoSigV1Timestamp(note.Signature{Base64: c.Line[strings.LastIndexByte(c.Line, ' ')+1:]})
	if err != nil {
		return 0
	}
	return uint64(max(0, at.UnixMilli()))
}
