package trail

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// example is the record of the test vector in docs/formats.md.
func example() Record {
	return Record{
		Act: ProjectChange, Actor: Actor{Kind: ByNamed, ID: 3, Role: RoleAdmin, Name: "anna"},
		Source: Source{Address: "192.0.2.7", Member: "m1"}, Target: Target{Kind: OfProject, ID: "7"},
		Before: []Value{{"name", "orders"}, {"public", "false"}},
		After:  []Value{{"name", "orders"}, {"public", "true"}},
	}
}

// vector is the binary form of the example. It never changes.
const vector = "43534155010002000000000000000000000200000003010" + "4616e6e61" + "093139322e302e322e37" + "026d31" +
	"02000137" + "02" + "046e616d6500066f7264657273" + "067075626c6963000566616c7365" +
	"02" + "046e616d6500066f7264657273" + "067075626c6963000474727565"

func TestVector(t *testing.T) {
	r := example()
	got := hex.EncodeToString(r.AppendTo(nil))
	if got != vector {
		t.Errorf("the example is\n%s, want\n%s", got, vector)
	}
	data, err := hex.DecodeString(vector)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(data)
	if err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("parsed %+v, %v", back, err)
	}
}

// TestNumbers freezes the numbers in records.
func TestNumbers(t *testing.T) {
	var names []string
	for _, act := range Acts() {
		names = append(names, act.String())
	}
	const want = "project-create project-change project-rename token-create token-revoke admin-create admin-revoke " +
		"settings-change time-set loss-confirm storage-check storage-remove miner-remove master-admit master-promote " +
		"master-remove leadership-transfer worker-register log-key-add log-key-retire level-raise certificate-reload " +
		"project-close log-close"
	if got := strings.Join(names, " "); !strings.HasPrefix(got, want) {
		t.Errorf("the acts are %s", got)
	}
	for i, act := range Acts()[:24] {
		if int(act) != i+1 {
			t.Errorf("act %d has the number %d", i+1, act)
		}
	}
}

func TestJSON(t *testing.T) {
	for _, act := range append(Acts(), 999) {
		r := example()
		r.Act, r.Phase, r.Outcome, r.Intent = act, Ended, NotDone, 12
		data, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		var back Record
		if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%s came back as %+v, %v", data, back, err)
		}
	}
	var a Act
	if err := json.Unmarshal([]byte(`"nonsense"`), &a); err == nil {
		t.Error("an act that does not exist was read")
	}
}

// TestLongParts checks that parts which are too long are cut between characters, and that the record stays bounded.
func TestLongParts(t *testing.T) {
	long := strings.Repeat("ä", 3000)
	var many []Value
	for range 300 {
		many = append(many, Value{"value", long})
	}
	r := Record{
		Act: WorkerRegister, Actor: Actor{Name: long}, Source: Source{long, long}, Target: Target{OfStorage, long},
		Before: many, After: many,
	}
	data := r.AppendTo(nil)
	if len(data) > 8<<10 {
		t.Errorf("the record has %d bytes", len(data))
	}
	back, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{back.Actor.Name, back.Source.Member, back.Target.ID, back.Before[0].Value} {
		if !utf8.ValidString(text) || !strings.HasSuffix(text, "…") || len(text) < 250 {
			t.Errorf("%d bytes remain: %.20q", len(text), text)
		}
	}
	for _, list := range [][]Value{back.Before, back.After} {
		if n := len(list); n < 2 || list[n-1] != (Value{"left-out", strconv.Itoa(301 - n)}) {
			t.Errorf("%d values, the last is %.50q", n, list[n-1])
		}
	}
	if key := r.Target.Key(); len(key) > 255 || !strings.HasPrefix(key, "storage/ä") || !utf8.ValidString(key) {
		t.Errorf("the key is %q", key)
	}
	if again := back.AppendTo(nil); !bytes.Equal(again, data) {
		t.Error("a record that was cut changes when it is written again")
	}
}

// TestCutValues checks at which sizes values are left out of a list, and that the others are counted.
func TestCutValues(t *testing.T) {
	list := func(n, size int) (values []Value) {
		for range n {
			values = append(values, Value{"n", strings.Repeat("x", size-1)})
		}
		return values
	}
	for _, c := range []struct{ n, size, kept, left int }{
		{0, 1, 0, 0}, {255, 2, 255, 0}, {256, 2, 254, 2}, {2, 1024, 2, 0}, {3, 1024, 1, 2}, {32, 64, 32, 0},
		{33, 64, 31, 2}, {1000, 100, 20, 980},
	} {
		values := list(c.n, c.size)
		want := slices.Clone(values[:c.kept])
		if c.left > 0 {
			want = append(want, Value{"left-out", strconv.Itoa(c.left)})
		}
		got := CutValues(values)
		if !slices.Equal(got, want) {
			t.Errorf("of %d values of %d bytes there are %d, want %d", c.n, c.size, len(got), len(want))
		}
		if !slices.Equal(CutValues(got), got) {
			t.Errorf("%d values of %d bytes are cut twice", c.n, c.size)
		}
	}
}

func TestMalformed(t *testing.T) {
	good := example()
	data := good.AppendTo(nil)
	for n := range data {
		if _, err := Parse(data[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	newer := bytes.Clone(data)
	newer[4] = 2
	for _, bad := range [][]byte{append(bytes.Clone(data), 0), newer, []byte("CSAX1234")} {
		if _, err := Parse(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	r := example()
	f.Add(r.AppendTo(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		back, err := Parse(r.AppendTo(nil))
		if err != nil || back.Act != r.Act || back.Target.Kind != r.Target.Kind {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

// TestFit checks that a record has all of the values that fit, and not one more.
func TestFit(t *testing.T) {
	for _, list := range [][]Value{
		nil,
		slices.Repeat([]Value{{"a", ""}}, 256),
		slices.Repeat([]Value{{"name", strings.Repeat("v", 100)}}, 40),
		slices.Repeat([]Value{{strings.Repeat("n", 300), strings.Repeat("v", 2000)}}, 3),
		{{"one", strings.Repeat("v", 5000)}, {"two", strings.Repeat("v", 5000)}, {"three", ""}},
	} {
		n := Fit(list)
		cut := CutValues(list[:n])
		if len(cut) != n || n > 0 && cut[n-1].Name == leftOut || len(list) > 0 && n == 0 {
			t.Errorf("%d of %d values: %d are in the record", n, len(list), len(cut))
		}
		if n < len(list) {
			if more := CutValues(list[:n+1]); more[len(more)-1].Name != leftOut {
				t.Errorf("%d of %d values fit, %d are said to", n+1, len(list), n)
			}
		}
	}
}
