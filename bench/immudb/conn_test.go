package immudb

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chainstore/chainstore/bench/immudb/immudbtest"
)

func key(i int) []byte { return fmt.Appendf(nil, "key %d", i) }

func value(i int) []byte { return fmt.Appendf(nil, "value %d", i) }

// dial opens a session that ends with the test.
func dial(t *testing.T, addr string) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), addr, DefaultDatabase)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// fill sets the keys 0 to n-1 in transactions of 1, 2, 3, 1, 2, 3 ... pairs, and one more key, whose header it returns.
func fill(t *testing.T, c *Conn, n int) *Header {
	t.Helper()
	for first, size := 0, 1; first < n; first, size = first+size, size%3+1 {
		var pairs []Pair
		for i := first; i < min(first+size, n); i++ {
			pairs = append(pairs, Pair{Key: key(i), Value: value(i)})
		}
		if _, err := c.Set(t.Context(), pairs...); err != nil {
			t.Fatal(err)
		}
	}
	last, err := c.Set(t.Context(), Pair{Key: []byte("last"), Value: []byte("last")})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func TestValuesAreProven(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 24, 40} {
		c := dial(t, immudbtest.Serve(t, &immudbtest.Server{}))
		trusted := fill(t, c, n)
		for i := range n {
			got, err := c.Get(t.Context(), key(i), trusted)
			if err != nil || string(got) != string(value(i)) {
				t.Errorf("key %d of %d: %q, %v", i, n, got, err)
			}
		}
	}
}

// TestUnprovenValuesAreRefused changes one part of an answer at a time.
func TestUnprovenValuesAreRefused(t *testing.T) {
	flip := func(b []byte) []byte {
		changed := slices.Clone(b)
		changed[len(changed)/2] ^= 4
		return changed
	}
	for name, change := range map[string]func(a *immudbtest.Answer){
		"value":                   func(a *immudbtest.Answer) { a.Value = flip(a.Value) },
		"longer value":            func(a *immudbtest.Answer) { a.Value = append(slices.Clone(a.Value), 0) },
		"transaction":             func(a *immudbtest.Answer) { a.Tx++ },
		"leaf":                    func(a *immudbtest.Answer) { a.Leaf++ },
		"leaf beyond the entries": func(a *immudbtest.Answer) { a.Leaf += 1 << 20 },
		"width":                   func(a *immudbtest.Answer) { a.Width++ },
		"width and entries":       func(a *immudbtest.Answer) { a.Width += 4; a.Source.Entries += 4 },
		"proof of the entry":      func(a *immudbtest.Answer) { a.InEntries[0] = flip(a.InEntries[0]) },
		"no proof of the entry":   func(a *immudbtest.Answer) { a.InEntries = nil },
		"longer proof":            func(a *immudbtest.Answer) { a.InEntries = append(a.InEntries, a.InTree[0]) },
		"proof in the tree":       func(a *immudbtest.Answer) { a.InTree[1] = flip(a.InTree[1]) },
		"no proof in the tree":    func(a *immudbtest.Answer) { a.InTree = nil },
		"source ID":               func(a *immudbtest.Answer) { a.Source.ID++; a.Tx++ },
		"source ID 0":             func(a *immudbtest.Answer) { a.Source.ID, a.Tx = 0, 0 },
		"source time":             func(a *immudbtest.Answer) { a.Source.Time++ },
		"source before":           func(a *immudbtest.Answer) { a.Source.Previous = flip(a.Source.Previous) },
		"source entries":          func(a *immudbtest.Answer) { a.Source.EntryRoot = flip(a.Source.EntryRoot) },
		"target ID":               func(a *immudbtest.Answer) { a.Target.ID++ },
		"target tree":             func(a *immudbtest.Answer) { a.Target.TreeRoot = flip(a.Target.TreeRoot) },
		"target tree size":        func(a *immudbtest.Answer) { a.Target.TreeSize-- },
		"target version":          func(a *immudbtest.Answer) { a.Target.Version = 0 },
		"source version":          func(a *immudbtest.Answer) { a.Source.Version = 2 },
	} {
		server := &immudbtest.Server{Change: change}
		c := dial(t, immudbtest.Serve(t, server))
		trusted := fill(t, c, 12)
		got, err := c.Get(t.Context(), key(4), trusted)
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s changed: %q, %v", name, got, err)
		}
	}
}

func TestOtherAnswersAreErrors(t *testing.T) {
	for name, change := range map[string]func(a *immudbtest.Answer){
		"reference":    func(a *immudbtest.Answer) { a.Reference = true },
		"short hash":   func(a *immudbtest.Answer) { a.InTree[0] = a.InTree[0][1:] },
		"another hash": func(a *immudbtest.Answer) { a.Source.EntryRoot = nil },
	} {
		c := dial(t, immudbtest.Serve(t, &immudbtest.Server{Change: change}))
		trusted := fill(t, c, 12)
		if got, err := c.Get(t.Context(), key(4), trusted); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestValuesOfAnotherKey proves the value of one key and says that it is that of another.
func TestValuesOfAnotherKey(t *testing.T) {
	c := dial(t, immudbtest.Serve(t, &immudbtest.Server{}))
	trusted := fill(t, c, 12)
	request := message(nil).bytes(getKey, message(nil).bytes(requestKey, key(3))).number(getSince, trusted.ID)
	got, err := c.call(t.Context(), "VerifiableGet", request)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := a.decode(got); err != nil {
		t.Fatal(err)
	}
	if err := a.verify(key(3), trusted); err != nil {
		t.Error(err)
	}
	if err := a.verify(key(4), trusted); !errors.Is(err, ErrProof) {
		t.Errorf("the value of key 3 is proven for key 4: %v", err)
	}
}

// recording is an answer of an immudb 1.11.1 server: to a get of the key, and to the set whose header is trusted.
type recording struct {
	Key, Value, Set, Get string // hex
}

func (r recording) decode(t *testing.T) (key, value, set, get []byte) {
	t.Helper()
	for _, one := range []struct {
		to   *[]byte
		from string
	}{{&key, r.Key}, {&value, r.Value}, {&set, r.Set}, {&get, r.Get}} {
		decoded, err := hex.DecodeString(one.from)
		if err != nil {
			t.Fatal(err)
		}
		*one.to = decoded
	}
	return key, value, set, get
}

func TestRecordedAnswer(t *testing.T) {
	encoded, err := os.ReadFile("testdata/get.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(encoded, &r); err != nil {
		t.Fatal(err)
	}
	key, value, set, get := r.decode(t)
	var trusted Header
	if err := trusted.decode(set); err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := a.decode(get); err != nil {
		t.Fatal(err)
	}
	if err := a.verify(key, &trusted); err != nil || string(a.value) != string(value) {
		t.Errorf("%q, %v", a.value, err)
	}
	if len(a.inEntries) == 0 || len(a.inTree) == 0 {
		t.Errorf("proofs of %d and %d hashes: the recording proves too little", len(a.inEntries), len(a.inTree))
	}
	// What ends too early, or has one other bit, proves no other value and does not panic.
	check := func(what string, changed []byte) {
		var a answer
		if a.decode(changed) == nil && a.verify(key, &trusted) == nil && string(a.value) != string(value) {
			t.Errorf("%s: %q is proven", what, a.value)
		}
	}
	for i := range get {
		check(fmt.Sprintf("the first %d bytes", i), get[:i])
		for bit := range 8 {
			changed := slices.Clone(get)
			changed[i] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d changed", bit, i), changed)
		}
	}
}

func TestSessions(t *testing.T) {
	server := &immudbtest.Server{}
	addr := immudbtest.Serve(t, server)
	if _, err := Dial(t.Context(), addr, "bench"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a session of a database that does not exist: %v", err)
	}
	c := dial(t, addr)
	if err := c.CreateDatabase(t.Context(), "bench", Settings{MaxConcurrency: 300, MaxEntries: 100}); err != nil {
		t.Fatal(err)
	}
	if entries, concurrency := server.Database("bench"); entries != 100 || concurrency != 300 {
		t.Errorf("a database of %d entries and %d transactions", entries, concurrency)
	}
	other, err := Dial(t.Context(), addr, "bench")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfTheServer(t *testing.T) {
	server := &immudbtest.Server{Refuse: status.Error(codes.Unknown, "max concurrency limit exceeded")}
	c := dial(t, immudbtest.Serve(t, server))
	if _, err := c.Set(t.Context(), Pair{Key: key(1), Value: value(1)}); status.Code(err) != codes.Unknown {
		t.Errorf("set: %v", err)
	}
	if _, err := c.Get(t.Context(), key(1), &Header{ID: 1}); status.Code(err) != codes.Unknown {
		t.Errorf("get: %v", err)
	}
}

func TestMalformedMessages(t *testing.T) {
	for _, m := range []message{
		{0x80},                   // a tag that does not end
		{0x08},                   // no number
		{0x0a, 5, 1},             // too few bytes
		{0x0a, 0xff, 0xff, 0xff}, // a length that does not end
		{0x09, 1, 2},             // too few bytes of a fixed length
		{0x0b},                   // a group
	} {
		err := m.each(func(int, uint64, message) error { return nil })
		if !errors.Is(err, errMessage) {
			t.Errorf("%x: %v", []byte(m), err)
		}
	}
	skipped := message{0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4}
	if err := skipped.number(7, 300).each(func(field int, number uint64, _ message) error {
		if field != 7 || number != 300 {
			t.Errorf("field %d, %d", field, number)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
