package verify

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/signedlog"
)

// A key of the other type, or with bytes that are no key, is refused.
func TestVerifierKeysOfAnotherForm(t *testing.T) {
	_, logKey := signedlog.Key("log", 1)
	_, witnessKey := testWitness(t, "witness", 2)
	encoded := base64.StdEncoding.EncodeToString
	for name, c := range map[string]struct {
		keys, witnesses []string
		want            string
	}{
		"a witness as a log":  {[]string{witnessKey}, nil, "it is a witness's"},
		"a log as a witness":  {nil, []string{logKey}, "it is a log's"},
		"another type":        {[]string{"log+00000000+" + encoded(append([]byte{9}, make([]byte, 32)...))}, nil, "0x09"},
		"too short":           {[]string{"log+00000000+" + encoded([]byte{1, 2})}, nil, "2 bytes"},
		"no base64":           {[]string{"log+00000000+?"}, nil, "malformed"},
		"two parts":           {[]string{"log+00000000"}, nil, "malformed"},
		"another key's hash":  {[]string{strings.Replace(logKey, "+", "+0", 1)}, nil, "its hash does not fit"},
		"twice under 2 names": {[]string{logKey, renamed(logKey)}, nil, "does not fit"},
	} {
		_, err := NewTrust(c.keys, c.witnesses, 0)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if trust, err := NewTrust([]string{logKey, logKey}, nil, 0); err != nil || len(trust.keys) != 1 {
		t.Errorf("a repeated key: %v", err)
	}
}

// renamed is a key under another name, with the hash of the first.
func renamed(vkey string) string { return "other" + vkey[strings.Index(vkey, "+"):] }
