package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

func newStarts(t testing.TB) *Starts {
	t.Helper()
	s, err := OpenStarts(filepath.Join(t.TempDir(), "starts"), false)
	if err != nil {
		t.Fatal(err)
	}
	present(t, s)
	return s
}

// begin adds another start, as if the process had been started again.
func begin(s *Starts) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add()
}

func present(t testing.TB, s *Starts) Start {
	t.Helper()
	now, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// reopened returns what the file of s contains.
func (s *Starts) reopened(t testing.TB) *Starts {
	t.Helper()
	again, err := OpenStarts(s.path, true)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestStartsAreKept(t *testing.T) {
	a := newStarts(t)
	first := present(t, a)
	if first.id == (Start{}).id || first.renewed != 0 {
		t.Errorf("the first start is %v", first)
	}
	for range 3 {
		if err := a.Renew(); err != nil {
			t.Fatal(err)
		}
	}
	other, third := Start{id: [16]byte{1}}, Start{id: [16]byte{2}, renewed: 7}
	for _, m := range []string{"m2", "m3"} {
		if ok, err := a.accept(m, Start{}, other); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if ok, err := a.accept("m3", other, third); !ok || err != nil {
		t.Fatal(ok, err)
	}
	again := a.reopened(t)
	if !slices.Equal(again.own, a.own) || !maps.Equal(again.peers, a.peers) || again.own[0].renewed != 3 {
		t.Errorf("reopened: %v %v, want %v %v", again.own, again.peers, a.own, a.peers)
	}
	if info, err := os.Stat(a.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := begin(again); err != nil {
		t.Fatal(err)
	}
	for x, known := range map[Start]bool{
		{}:                                     true, // none was accepted
		first:                                  true,
		{id: first.id, renewed: 3}:             true,
		{id: first.id, renewed: 4}:             false, // renewed after this folder was copied
		present(t, again):                      true,
		{id: [16]byte{9}}:                      false,
		{renewed: 1}:                           false,
		{id: other.id}:                         false, // a peer's
		{id: present(t, again).id, renewed: 1}: false,
	} {
		if again.contains(x) != known {
			t.Errorf("contains %v: %v", x, !known)
		}
	}
}

func TestStartsAccept(t *testing.T) {
	s := newStarts(t)
	one, two, three := Start{id: [16]byte{1}}, Start{id: [16]byte{2}}, Start{id: [16]byte{3}}
	renewed := Start{id: one.id, renewed: 5}
	for i, c := range []struct {
		before, now Start
		accepted    bool
		last        Start
	}{
		{Start{}, one, true, one},
		{Start{}, one, true, one},      // the same again
		{Start{}, two, false, one},     // it does not know start one
		{two, three, false, one},       // it knows another one
		{one, renewed, true, renewed},  // renewed
		{Start{}, one, true, renewed},  // an earlier connection of the same start
		{one, two, false, renewed},     // it knows one before it was renewed
		{renewed, two, true, two},      // the next start
		{renewed, three, false, two},   // another next start: a copy
		{renewed, renewed, false, two}, // the one before it
		{two, Start{id: two.id, renewed: 1}, true, Start{id: two.id, renewed: 1}},
	} {
		accepted, err := s.accept("m", c.before, c.now)
		if err != nil || accepted != c.accepted || s.lastOf("m") != c.last || s.reopened(t).lastOf("m") != c.last {
			t.Errorf("%d: %v, %v, last %v, in the file %v", i, accepted, err, s.lastOf("m"), s.reopened(t).lastOf("m"))
		}
	}
}

func TestStartsFileIsChecked(t *testing.T) {
	s := newStarts(t)
	if _, err := s.accept("m2", Start{}, Start{id: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{"empty": {}, "byte behind": append(bytes.Clone(good), 0)}
	for n := range good {
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x20
		damaged[fmt.Sprint("flipped at ", n)] = flipped
		damaged[fmt.Sprint("cut at ", n)] = good[:n]
	}
	for name, data := range damaged {
		if err := os.WriteFile(s.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStarts(s.path, false); !errors.Is(err, durable.ErrDamaged) &&
			!errors.Is(err, durable.ErrNewerFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Clone(good)
	newer[4] = startsFormat.Version + 1
	if err := os.WriteFile(s.path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStarts(s.path, false); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("newer version: %v", err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStarts(s.path, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestStartsAreBounded(t *testing.T) {
	s := newStarts(t)
	for len(s.own) < maxStarts {
		s.own = append(s.own, Start{id: [16]byte{byte(len(s.own)), byte(len(s.own) >> 8), 1}})
	}
	newest := present(t, s)
	if err := begin(s); err != nil {
		t.Fatal(err)
	}
	if len(s.own) != maxStarts || !s.contains(newest) || len(s.reopened(t).own) != maxStarts {
		t.Errorf("%d starts", len(s.own))
	}
}

// A start that cannot be written is not used.
func TestStartsThatCannotBeWritten(t *testing.T) {
	s := newStarts(t)
	before := present(t, s)
	if err := os.RemoveAll(filepath.Dir(s.path)); err != nil {
		t.Fatal(err)
	}
	if err := begin(s); !errors.Is(err, ErrStarts) {
		t.Errorf("begin: %v", err)
	}
	if err := s.Renew(); !errors.Is(err, ErrStarts) {
		t.Errorf("renew: %v", err)
	}
	if ok, err := s.accept("m", Start{}, before); ok || !errors.Is(err, ErrStarts) {
		t.Errorf("accept: %v, %v", ok, err)
	}
	if present(t, s) != before || s.lastOf("m") != (Start{}) {
		t.Errorf("now %v, %v", present(t, s), s.lastOf("m"))
	}
}

func FuzzStarts(f *testing.F) {
	s := newStarts(f)
	if _, err := s.accept("m2", Start{}, Start{id: [16]byte{1}, renewed: 3}); err != nil {
		f.Fatal(err)
	}
	f.Add(startsFormat.Append(nil, encodeStarts(s.own, s.peers)))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := &Starts{peers: map[string]Start{}}
		if startsFormat.Decode(data, got.parse) != nil || len(got.peers) != 1 {
			return
		}
		if again := startsFormat.Append(nil, encodeStarts(got.own, got.peers)); !bytes.Equal(again, data) {
			t.Errorf("%x is read as %x", data, again)
		}
	})
}

// The vector of docs/formats.md.
func TestStartsVector(t *testing.T) {
	s := &Starts{peers: map[string]Start{"m2": {}}}
	var own, peer Start
	for i := range own.id {
		own.id[i], peer.id[i] = byte(i), byte(0xf0+i)
	}
	own.renewed = 2
	s.own, s.peers["m2"] = []Start{own}, peer
	const want = "43534d5301" + "00000001" + "000102030405060708090a0b0c0d0e0f" + "0000000000000002" +
		"00000001" + "02" + "6d32" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "0000000000000000" + "677b2e4f"
	if got := hex.EncodeToString(startsFormat.Append(nil, encodeStarts(s.own, s.peers))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
