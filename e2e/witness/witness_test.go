package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/internal/signedlog"
)

const origin = "example.com/log"

// testLog is a log that grows as far as a call requires.
type testLog struct {
	t *testing.T
	*signedlog.Log
	leaf string // text of each leaf, without its number
}

func newLog(t *testing.T, origin string, seed byte) *testLog {
	return &testLog{t: t, Log: signedlog.New(origin, seed), leaf: "leaf"}
}

func (l *testLog) grow(size uint64) {
	for l.Size() < size {
		l.AddLeaf(fmt.Appendf(nil, "%s %d", l.leaf, l.Size()))
	}
}

func (l *testLog) checkpoint(size uint64) string {
	l.grow(size)
	return l.Checkpoint(size)
}

// proof returns the lines of a consistency proof.
func (l *testLog) proof(from, to uint64) string {
	l.grow(to)
	if from == 0 || from == to {
		return ""
	}
	hashes, err := tlog.ProveTree(int64(to), int64(from), l)
	if err != nil {
		l.t.Fatal(err)
	}
	var b strings.Builder
	for _, h := range hashes {
		fmt.Fprintln(&b, h)
	}
	return b.String()
}

// body returns a valid submission.
func (l *testLog) body(from, to uint64) string {
	return fmt.Sprintf("old %d\n%s\n%s", from, l.proof(from, to), l.checkpoint(to))
}

func post(w http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRecorder()
	w.ServeHTTP(r, httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
	return r
}

func TestCosigns(t *testing.T) {
	for kind, create := range map[string]func(string) (*Witness, error){"Ed25519": New, "ML-DSA-44": NewMLDSA} {
		t.Run(kind, func(t *testing.T) {
			w, err := create("witness.example/w1")
			if err != nil {
				t.Fatal(err)
			}
			l := newLog(t, origin, 1)
			w.Know(origin, l.VKey)
			verifier, err := formats.NewVerifierForCosignatureV1(w.VKey())
			if err != nil {
				t.Fatal(err)
			}
			own, err := note.NewVerifier(l.VKey)
			if err != nil {
				t.Fatal(err)
			}
			monitor := fmt.Sprintf("/%x/checkpoint", sha256.Sum256([]byte(origin)))
			if got := get(w, monitor); got.Code != http.StatusNotFound {
				t.Errorf("the checkpoint of a log that was not cosigned yet: status %d", got.Code)
			}
			from := uint64(0)
			for _, to := range []uint64{0, 1, 1, 2, 3, 7, 8, 300, 300, 4097} {
				answer := post(w, l.body(from, to))
				if answer.Code != http.StatusOK {
					t.Fatalf("from %d to %d: %d %s", from, to, answer.Code, answer.Body)
				}
				cosigned := l.checkpoint(to) + answer.Body.String()
				opened, err := note.Open([]byte(cosigned), note.VerifierList(verifier, own))
				if err != nil || len(opened.Sigs) != 2 || len(opened.UnverifiedSigs) != 0 {
					t.Fatalf("the cosigned note of size %d: %v\n%s", to, err, cosigned)
				}
				if at, err := formats.CoSigV1Timestamp(opened.Sigs[1]); err != nil || at.Unix() <= 0 {
					t.Errorf("a cosignature of the time %v, %v", at, err)
				}
				if got := get(w, monitor); got.Code != http.StatusOK || got.Body.String() != cosigned {
					t.Errorf("the monitoring prefix: %d\n%s\nwhere this was cosigned:\n%s", got.Code, got.Body,
						cosigned)
				}
				if w.Size(origin) != to {
					t.Errorf("size %d, not %d", w.Size(origin), to)
				}
				from = to
			}
			w.Forget(origin)
			if answer := post(w, l.body(0, 2)); answer.Code != http.StatusOK {
				t.Errorf("a witness that forgot: %d %s", answer.Code, answer.Body)
			}
		})
	}
}

func get(w http.Handler, path string) *httptest.ResponseRecorder {
	r := httptest.NewRecorder()
	w.ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
	return r
}

// TestRefuses has a row for each refusal in the specification. The witness has cosigned size 5, and must still have
// that size afterwards.
func TestRefuses(t *testing.T) {
	l, forked, stranger := newLog(t, origin, 1), newLog(t, origin, 1), newLog(t, "example.com/other", 2)
	impostor := newLog(t, origin, 3) // another key with the same name
	forked.leaf = "another leaf"
	long := strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 64)
	for name, c := range map[string]struct {
		body   string
		status int
		answer string
	}{
		"nothing":                        {"", 400, ""},
		"no empty line":                  {"old 5\n" + l.proof(5, 9), 400, ""},
		"no old size":                    {l.checkpoint(9), 400, ""},
		"an old size with a zero":        {strings.Replace(l.body(5, 9), "old 5", "old 05", 1), 400, ""},
		"a negative old size":            {strings.Replace(l.body(5, 9), "old 5", "old -5", 1), 400, ""},
		"an old size that is no number":  {strings.Replace(l.body(5, 9), "old 5", "old five", 1), 400, ""},
		"a hash that is short":           {"old 5\nAAAA\n\n" + l.checkpoint(9), 400, ""},
		"a hash that is no base64":       {"old 5\n!\n\n" + l.checkpoint(9), 400, ""},
		"a proof of 64 lines":            {"old 5\n" + long + "\n" + l.checkpoint(9), 400, ""},
		"no note":                        {"old 5\n\nhello\n", 400, ""},
		"a checkpoint without signature": {"old 5\n\n" + strings.Split(l.checkpoint(9), "\n\n")[0] + "\n", 400, ""},
		"a size with a zero": {"old 5\n\n" + strings.Replace(l.checkpoint(9), "\n9\n", "\n09\n", 1), 400,
			""},
		"an old size beyond":             {"old 10\n\n" + l.checkpoint(9), 400, ""},
		"another log":                    {stranger.body(0, 3), 404, ""},
		"another key":                    {impostor.body(5, 9), 403, ""},
		"a damaged signature":            {strings.Replace(l.body(5, 9), "\n9\n", "\n8\n", 1), 403, ""},
		"a smaller old size":             {l.body(3, 9), 409, "5\n"},
		"no old size known":              {l.body(0, 9), 409, "5\n"},
		"a larger old size":              {l.body(7, 9), 409, "5\n"},
		"no old size known, and smaller": {l.body(0, 4), 409, "5\n"},
		"no proof":                       {"old 5\n\n" + l.checkpoint(9), 422, ""},
		"another proof":                  {"old 5\n" + l.proof(4, 9) + "\n" + l.checkpoint(9), 422, ""},
		"a fork":                         {forked.body(5, 9), 422, ""},
		"a fork of the same size":        {forked.body(5, 5), 422, ""},
		"a proof of the same size":       {"old 5\n" + l.proof(4, 5) + "\n" + l.checkpoint(5), 422, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := mustNew(t)
			w.Know(origin, l.VKey)
			if answer := post(w, l.body(0, 5)); answer.Code != http.StatusOK {
				t.Fatal(answer.Code, answer.Body)
			}
			answer := post(w, c.body)
			if answer.Code != c.status {
				t.Errorf("status %d, not %d: %s", answer.Code, c.status, answer.Body)
			}
			if c.status == http.StatusConflict && answer.Header().Get("Content-Type") != "text/x.tlog.size" {
				t.Errorf("a conflict of the type %q", answer.Header().Get("Content-Type"))
			}
			if c.answer != "" && answer.Body.String() != c.answer {
				t.Errorf("the answer %q, not %q", answer.Body, c.answer)
			}
			if got := w.Size(origin); got != 5 {
				t.Errorf("it has size %d now", got)
			}
		})
	}
}

// TestRefusesOfTheEmptyTree checks the refusals before anything was cosigned.
func TestRefusesOfTheEmptyTree(t *testing.T) {
	l := newLog(t, origin, 1)
	for name, body := range map[string]string{
		"a proof from nothing": "old 0\n" + l.proof(4, 9) + "\n" + l.checkpoint(9),
		"another empty root":   "old 0\n\n" + signedlog.Sign(origin, 0, l.Root(1), l.Signer),
	} {
		w := mustNew(t)
		w.Know(origin, l.VKey)
		if answer := post(w, body); answer.Code != http.StatusUnprocessableEntity || w.Size(origin) != 0 {
			t.Errorf("%s: status %d: %s", name, answer.Code, answer.Body)
		}
	}
}

// TestKnowsTwoKeys checks that one known key is enough while a log signs with two keys during a key change.
func TestKnowsTwoKeys(t *testing.T) {
	l, next := newLog(t, origin, 1), newLog(t, origin, 2)
	w := mustNew(t)
	w.Know(origin, l.VKey)
	both, err := note.Sign(&note.Note{Text: strings.SplitAfter(l.checkpoint(3), "=\n")[0]}, next.Signer, l.Signer)
	if err != nil {
		t.Fatal(err)
	}
	if answer := post(w, "old 0\n\n"+string(both)); answer.Code != http.StatusOK {
		t.Errorf("signed with a known and an unknown key: %d %s", answer.Code, answer.Body)
	}
	w.Know(origin, l.VKey, next.VKey)
	if answer := post(w, next.body(3, 4)); answer.Code != http.StatusOK {
		t.Errorf("signed with the successor: %d %s", answer.Code, answer.Body)
	}
	damaged := bytes.Replace(both, []byte("\n3\n"), []byte("\n4\n"), 1)
	if answer := post(w, "old 4\n\n"+string(damaged)); answer.Code != http.StatusForbidden {
		t.Errorf("signatures over another text: %d %s", answer.Code, answer.Body)
	}
}

// TestRace checks that only one of two submissions from one size is cosigned.
func TestRace(t *testing.T) {
	l := newLog(t, origin, 1)
	w := mustNew(t)
	w.Know(origin, l.VKey)
	if answer := post(w, l.body(0, 5)); answer.Code != http.StatusOK {
		t.Fatal(answer.Code)
	}
	bodies := []string{l.body(5, 7), l.body(5, 9)}
	codes := make([]int, len(bodies))
	var wait sync.WaitGroup
	for i, body := range bodies {
		wait.Go(func() { codes[i] = post(w, body).Code })
	}
	wait.Wait()
	if codes[0]+codes[1] != http.StatusOK+http.StatusConflict {
		t.Errorf("the answers %v", codes)
	}
}

// TestKey checks the form of the key against the specification: type 0x04, and the key id computed over it.
func TestKey(t *testing.T) {
	w := mustNew(t)
	parts := strings.SplitN(w.VKey(), "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		t.Fatalf("the key %s", w.VKey())
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if parts[1] != hex.EncodeToString(sum[:4]) {
		t.Errorf("key id %s, not %x", parts[1], sum[:4])
	}
}

func mustNew(t *testing.T) *Witness {
	t.Helper()
	w, err := New("witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	return w
}
