package verify

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/transparency-dev/formats/log"
	witness "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Trust names the keys of the log, the witnesses, and how many of them must have signed as well.
type Trust struct {
	keys, witnesses []note.Verifier
	quorum          int
}

// ErrKey: a verifier key cannot be used.
var ErrKey = errors.New("verifier key not acceptable")

// NewTrust makes a Trust from verifier keys (https://c2sp.org/signed-note), which are lines NAME+HASH+BASE64: keys of
// the log, of type Ed25519, of which one must have signed, and witnesses, of type cosignature/v1, of which quorum must
// have. A repeated line counts once. One public key under two names is refused, since it would count as two. The error
// wraps [ErrKey].
func NewTrust(keys, witnesses []string, quorum int) (Trust, error) {
	t, named := Trust{quorum: quorum}, map[string]string{}
	var err error
	if t.keys, err = verifiers(keys, named, typeLog, note.NewVerifier); err != nil {
		return Trust{}, err
	}
	if t.witnesses, err = verifiers(witnesses, named, typeWitness, witness.NewVerifierForCosignatureV1); err != nil {
		return Trust{}, err
	}
	if quorum < 0 || quorum > len(t.witnesses) {
		return Trust{}, fmt.Errorf("%w: %d witnesses are to have signed, and the keys of %d are named", ErrKey, quorum,
			len(t.witnesses))
	}
	return t, nil
}

// oneLog returns an error if the keys are of logs of different names. After a log was closed, its former keys must not
// be accepted any more. The error wraps [ErrKey].
func (t Trust) oneLog() error {
	for _, k := range t.keys {
		if k.Name() != t.keys[0].Name() {
			return fmt.Errorf("%w: the keys are of two logs, %q and %q: a log has one name at a time, and who has a "+
				"key of a closed log could show another tree; name the keys of one", ErrKey, t.keys[0].Name(), k.Name())
		}
	}
	return nil
}

// Checkpoint is a log's statement about its tree (https://c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string     `json:"origin"`
	Size   uint64     `json:"size"`
	Root   chain.Hash `json:"root"`
	// SignedBy are the keys, and CosignedBy the witnesses, as NAME+HASH, with a valid signature.
	SignedBy   []string `json:"signed_by"`
	CosignedBy []string `json:"cosigned_by,omitempty"`
	Note       string   `json:"note"` // as it was signed
}

// maxNote bounds a signed checkpoint, in bytes: a hundred signatures fit.
const maxNote = 64 << 10

// open reads a signed checkpoint and checks its signatures.
func (t Trust) open(signed []byte) (Checkpoint, findings) {
	var found findings
	if len(signed) > maxNote {
		found.add(CodeCheckpoint, "the checkpoint has %d bytes, the limit is %d", len(signed), maxNote)
		return Checkpoint{}, found
	}
	n, err := note.Open(signed, note.VerifierList(t.keys...))
	var bad *note.InvalidSignatureError
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &bad):
		found.add(CodeSignature, "bad signature: it is not that of key %s, in whose name the checkpoint is signed",
			keyName(bad.Name, bad.Hash))
		return Checkpoint{}, found
	case errors.As(err, &unverified):
		signers := joined(unverified.Note.UnverifiedSigs, signerName)
		found.add(CodeUnknownKey, "unknown key: the checkpoint is signed by %s, and by none of the keys that were "+
			"named: %s", signers, cmp.Or(joined(t.keys, verifierName), "none was"))
		return Checkpoint{}, found
	case err != nil:
		found.add(CodeCheckpoint, "the checkpoint is no signed note: %v", err)
		return Checkpoint{}, found
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		found.add(CodeCheckpoint, "the note is no checkpoint: %v", err)
		return Checkpoint{}, found
	}
	c.Note = string(signed)
	for _, s := range n.Sigs {
		if !plainBase64(s.Base64) {
			found.add(CodeCheckpoint, "the signature of %s has bits in its base64 that mean nothing", signerName(s))
		}
		c.SignedBy = append(c.SignedBy, signerName(s))
		if s.Name != c.Origin {
			found.add(CodeOrigin, "the checkpoint is of log %q, and its key is of %q", c.Origin, s.Name)
		}
	}
	for _, w := range t.witnesses {
		n, err := note.Open(signed, note.VerifierList(w))
		if errors.As(err, &bad) {
			found.add(CodeCosignature, "the signature in the name of witness %s is not that witness's", verifierName(w))
		} else if err == nil {
			if !plainBase64(n.Sigs[0].Base64) {
				found.add(CodeCheckpoint, "the signature of witness %s has bits in its base64 that mean nothing",
					verifierName(w))
			}
			c.CosignedBy = append(c.CosignedBy, verifierName(w))
		}
	}
	if len(c.CosignedBy) < t.quorum {
		found.add(CodeWitnesses, "%d of the witnesses that were named have signed, and %d are asked for",
			len(c.CosignedBy), t.quorum)
	}
	return c, found
}

// openClosing reads the statement that a log is closed, which a key of the log that continues it must have signed.
func (t Trust) openClosing(signed, origin string) (wire.Closing, error) {
	if len(signed) > maxNote {
		return wire.Closing{}, fmt.Errorf("its statement has %d bytes, the limit is %d", len(signed), maxNote)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(t.keys...))
	if err != nil {
		return wire.Closing{}, fmt.Errorf("its statement: %w", err)
	}
	if !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == origin && plainBase64(s.Base64) }) {
		return wire.Closing{}, fmt.Errorf("no key of %q that was named has signed its statement", origin)
	}
	return wire.ParseClosing(n.Text)
}

// plainBase64 reports whether a text is the only accepted spelling of its bytes.
func plainBase64(text string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil
}

// ReadCheckpoint reads a checkpoint and checks no signature. Use it only to copy one.
func ReadCheckpoint(signed string) (Checkpoint, error) {
	c, err := parseCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("not a checkpoint: %w", err)
	}
	c.Note = signed
	return c, nil
}

// parseCheckpoint reads the text of a checkpoint.
func parseCheckpoint(text string) (Checkpoint, error) {
	var c log.Checkpoint
	if _, err := c.Unmarshal([]byte(text)); err != nil {
		return Checkpoint{}, err
	}
	if len(c.Hash) != chain.HashSize {
		return Checkpoint{}, fmt.Errorf("its root has %d bytes, not %d", len(c.Hash), chain.HashSize)
	}
	if c.Size > maxSize {
		return Checkpoint{}, fmt.Errorf("a tree of %d leaves is more than there can be", c.Size)
	}
	return Checkpoint{Origin: c.Origin, Size: c.Size, Root: chain.Hash(c.Hash)}, nil
}

// maxSize is the largest tree for which the arithmetic of package tlog does not overflow.
const maxSize = 1 << 55

// keyName is the name of a key with its hash.
func keyName(name string, hash uint32) string { return fmt.Sprintf("%s+%08x", name, hash) }

func verifierName(v note.Verifier) string { return keyName(v.Name(), v.KeyHash()) }

func signerName(s note.Signature) string { return keyName(s.Name, s.Hash) }

// joined lists the names of keys.
func joined[K any](keys []K, name func(K) string) string {
	var list []string
	for _, k := range keys {
		list = append(list, name(k))
	}
	return strings.Join(list, ", ")
}
