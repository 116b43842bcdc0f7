package atrest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// hexBytes is bytes that JSON has as hex digits.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

// TestVectors compares a header and a message with those that testdata/vectors.py computes.
func TestVectors(t *testing.T) {
	var v struct {
		OperatorKey hexBytes `json:"operator_key"`
		KeyID       hexBytes `json:"key_id"`
		Context     hexBytes
		Salt        hexBytes
		DataKey     hexBytes `json:"data_key"`
		Header      hexBytes
		Nonce       hexBytes
		Plain       hexBytes
		Additional  hexBytes
		Message     hexBytes
	}
	data, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	if id := idOf(v.OperatorKey); !bytes.Equal(id[:], v.KeyID) {
		t.Errorf("the id is %v", id)
	}
	r := &Ring{current: idOf(v.OperatorKey), keys: map[ID][]byte{idOf(v.OperatorKey): v.OperatorKey}}
	if got := wrap(r.current, v.OperatorKey, v.Salt, v.DataKey, v.Context); !bytes.Equal(got, v.Header) {
		t.Errorf("header %x", got)
	}
	key, err := r.Unwrap(v.Header, v.Context)
	if err != nil || !bytes.Equal(key.secret, v.DataKey) {
		t.Fatalf("data key: %v", err)
	}
	if got := key.aead.Seal(v.Nonce, v.Nonce, v.Plain, v.Additional); !bytes.Equal(got, v.Message) {
		t.Errorf("message %x", got)
	}
	if got, err := key.Open(bytes.Clone(v.Message), v.Additional); err != nil || !bytes.Equal(got, v.Plain) {
		t.Errorf("plain text %x, %v", got, err)
	}
}

// testLine returns a key of a file.
func testLine(number byte) string {
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = byte(i*i*7+i*13) + number*29
	}
	return hex.EncodeToString(key)
}

func load(t testing.TB, lines ...string) *Ring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEveryBit flips each bit of a header and of a message. None may decrypt, and none with the key of the ring may
// count as one of a missing key, unless the id itself differs.
func TestEveryBit(t *testing.T) {
	r := load(t, testLine(1))
	context := []byte("file 7")
	key, header := r.NewKey(context)
	message := key.Seal(nil, []byte("text"), []byte("place"))
	for bit := range 8 * len(header) {
		bad := bytes.Clone(header)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := r.Unwrap(bad, context)
		if want := bit < 8*len(ID{}); errors.Is(err, ErrNoKey) != want || errors.Is(err, durable.ErrDamaged) == want {
			t.Errorf("bit %d of the header: %v", bit, err)
		}
	}
	for bit := range 8 * len(message) {
		bad := bytes.Clone(message)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := key.Open(bad, []byte("place")); !errors.Is(err, durable.ErrDamaged) {
			t.Errorf("bit %d of the message: %v", bit, err)
		}
	}
	for name, err := range map[string]error{
		"another file":    errorOf(r.Unwrap(header, []byte("file 8"))),
		"a short header":  errorOf(r.Unwrap(header[1:], context)),
		"another place":   errorOf(key.Open(bytes.Clone(message), []byte("palce"))),
		"a short message": errorOf(key.Open(bytes.Clone(message[:Overhead-1]), []byte("place"))),
	} {
		if !errors.Is(err, durable.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := key.Open(message, []byte("place")); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
}

func errorOf[T any](_ T, err error) error { return err }

// TestNoncesDiffer checks that equal texts at equal places have different messages, and equal files different headers.
func TestNoncesDiffer(t *testing.T) {
	r := load(t, testLine(1))
	seen := map[string]bool{}
	for range 100 {
		key, header := r.NewKey(nil)
		for _, s := range []string{string(key.Seal(nil, nil, nil)), string(key.Seal(nil, nil, nil)), string(header)} {
			if seen[s[:NonceSize+len(ID{})]] && len(s) != HeaderSize || seen[s] {
				t.Fatalf("%x is there twice", s)
			}
			seen[s], seen[s[:min(len(s), NonceSize+len(ID{}))]] = true, true
		}
	}
}

// TestFiles loads good and bad files of keys.
func TestFiles(t *testing.T) {
	good := testLine(1)
	for name, row := range map[string]struct{ text, want string }{
		"one":             {good, ""},
		"comments":        {"# old keys below\n\n" + good + " since May\r\n" + strings.ToUpper(testLine(2)) + "\n", ""},
		"empty":           {"", "no key"},
		"comments only":   {"# " + good, "no key"},
		"short":           {good[2:], "line 1"},
		"odd":             {good[1:], "line 1"},
		"no hex":          {good + "\n" + strings.Repeat("xy", 32), "line 2"},
		"zeros":           {strings.Repeat("00", 32), "not random"},
		"few bytes":       {strings.Repeat("0123456789abcdef", 4), "not random"},
		"text":            {hex.EncodeToString([]byte("correct horse battery staple 123")), "not random"},
		"counted":         {counted(), "not random"},
		"twice":           {good + "\n" + good, "twice"},
		"too many":        {manyLines(maxKeys + 1), "more than"},
		"as many as fit":  {manyLines(maxKeys), ""},
		"no line feed":    {good + " " + good, ""},
		"a key in quotes": {`"` + good + `"`, "line 1"},
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: %v, want %q", name, err, row.want)
		case err != nil && len(row.text) > 60 && strings.Contains(err.Error(), row.text[:60]):
			t.Errorf("%s: the error has the key", name)
		}
	}
	path := filepath.Join(t.TempDir(), "keys")
	for _, mode := range []os.FileMode{0o604, 0o601, 0o602, 0o620, 0o644} {
		if err := os.WriteFile(path, []byte(good), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, durable.ErrNotFile) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// counted returns a key whose bytes follow each other.
func counted() string {
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = 0x80 + byte(i)
	}
	return hex.EncodeToString(key)
}

func manyLines(count int) string {
	var lines []string
	for i := range count {
		lines = append(lines, testLine(byte(i)))
	}
	return strings.Join(lines, "\n")
}

// TestReload changes the file of a ring: the first key encrypts, removed keys stay, and a bad file changes nothing.
func TestReload(t *testing.T) {
	r := load(t, testLine(1))
	first := r.Current()
	_, header := r.NewKey(nil)
	steps := []struct {
		text    string
		changed bool
		fails   bool
	}{
		{testLine(1), false, false}, {testLine(2) + "\n" + testLine(1), true, false}, {testLine(2), true, false},
		{"", false, true}, {testLine(2), false, false},
	}
	for i, s := range steps {
		if err := os.WriteFile(r.path, []byte(s.text), 0o600); err != nil {
			t.Fatal(err)
		}
		changed, err := r.Reload()
		if changed != s.changed || (err != nil) != s.fails {
			t.Errorf("step %d: %v, %v", i, changed, err)
		}
	}
	if r.Current() == first {
		t.Error("the first key still encrypts")
	}
	key, err := r.Unwrap(header, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again := r.Wrap(key, nil); IDOf(again) != r.Current() {
		t.Error("the new header has the old key")
	} else if k, err := r.Unwrap(again, nil); err != nil || !k.Equal(key) {
		t.Errorf("the new header has another data key, %v", err)
	}
	if _, err := load(t, testLine(3)).Unwrap(header, nil); !errors.Is(err, ErrNoKey) ||
		!strings.Contains(err.Error(), first.String()) {
		t.Errorf("without the key: %v", err)
	}
	var none *Ring
	if _, err := none.Unwrap(header, nil); !errors.Is(err, ErrNoKey) || none.Has() || none.HasKey(first) {
		t.Errorf("a nil ring: %v", err)
	}
	if changed, err := none.Reload(); changed || err != nil || none.Current() != (ID{}) {
		t.Errorf("a nil ring: %v, %v", changed, err)
	}
}

// FuzzKeys reads arbitrary files of keys.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(testLine(1) + "\n# x\n" + testLine(2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err == nil && (len(keys) == 0 || len(keys) > maxKeys) {
			t.Fatalf("%d keys", len(keys))
		}
		for _, key := range keys {
			if len(key) != KeySize || isWeak(key) {
				t.Fatalf("key %x", key)
			}
		}
	})
}

// FuzzUnwrap decrypts arbitrary headers and messages.
func FuzzUnwrap(f *testing.F) {
	r := load(f, testLine(1))
	key, header := r.NewKey(nil)
	f.Add(header, key.Seal(nil, []byte("text"), nil))
	f.Fuzz(func(t *testing.T, data, message []byte) {
		if k, err := r.Unwrap(data, nil); err == nil && (!bytes.Equal(data, header) || !k.Equal(key)) {
			t.Fatalf("header %x", data)
		}
		if plain, err := key.Open(message, nil); err == nil && string(plain) != "text" {
			t.Fatalf("message of %q", plain)
		}
	})
}
