package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Types of verifier keys: the first byte of their decoded base64.
const (
	typeLog     = 0x01 // Ed25519
	typeWitness = 0x04 // cosignature/v1
)

// verifiers parses verifier keys of one type, without repeated ones. named has the keys that were parsed before, by
// their public keys: a public key that is named in two ways would count twice. The error wraps [ErrKey].
func verifiers(
	vkeys []string, named map[string]string, kind byte, parse func(string) (note.Verifier, error),
) ([]note.Verifier, error) {
	var list []note.Verifier
	for _, vkey := range vkeys {
		public, err := parseVerifierKey(vkey, kind)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrKey, vkey, err)
		}
		if before, known := named[public]; known && before != vkey {
			return nil, fmt.Errorf("%w: %q and %q are one public key, which would count twice: name it once", ErrKey,
				before, vkey)
		} else if known {
			continue
		}
		v, err := parse(vkey)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrKey, vkey, err)
		}
		named[public] = vkey
		list = append(list, v)
	}
	return list, nil
}

// parseVerifierKey returns the public key of a verifier key of one type. Only one spelling is accepted: the hash is
// that of name, type and key, in lower case, and the base64 has no unused bits or characters.
func parseVerifierKey(vkey string, kind byte) (public string, err error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 || parts[0] == "" {
		return public, errors.New("malformed: a verifier key is NAME+HASH+BASE64")
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	switch {
	case err != nil:
		return public, fmt.Errorf("malformed: %w", err)
	case len(data) != 1+ed25519.PublicKeySize:
		return public, fmt.Errorf("malformed: its base64 holds %d bytes, not %d", len(data), 1+ed25519.PublicKeySize)
	case data[0] != kind && kind == typeLog && data[0] == typeWitness:
		return public, errors.New("it is a witness's, which says nothing of the log's own signature")
	case data[0] != kind && kind == typeWitness && data[0] == typeLog:
		return public, errors.New("it is a log's; a witness's is of type cosignature/v1, 0x04")
	case data[0] != kind:
		return public, fmt.Errorf("its type is 0x%02x, and 0x%02x is due", data[0], kind)
	}
	hash := sha256.Sum256(bytes.Join([][]byte{[]byte(parts[0]), data}, []byte("\n")))
	if want := fmt.Sprintf("%s+%x+%s", parts[0], hash[:4], base64.StdEncoding.EncodeToString(data)); vkey != want {
		return public, fmt.Errorf("its hash does not fit, or it is not written as it should be: with that name and "+
			"key it is %q", want)
	}
	return string(data[1:]), nil
}
