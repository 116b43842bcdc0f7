package masterapi

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// FuzzParseNDJSON checks the lines of a batch: each has a payload, and a key and a type that a record may have.
func FuzzParseNDJSON(f *testing.F) {
	f.Add([]byte(`{"text":"x","key":"k","type":"text/plain"}` + "\n\n" + `{"payload":"AA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 3
		entries, err := parseNDJSON(data, limit)
		if err != nil {
			if !errors.Is(err, wire.ErrBadRequest) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if len(entries) > limit+1 {
			t.Errorf("%d entries, the limit is %d", len(entries), limit)
		}
		var lines []byte
		for _, e := range entries {
			line, err := json.Marshal(wire.BatchLine{Payload: &e.Payload, Key: e.Key, Type: e.Type})
			if err != nil {
				t.Fatal(err)
			}
			lines = append(append(lines, line...), '\n')
		}
		again, err := parseNDJSON(lines, limit)
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%q: %v, %v", lines, again, err)
		}
		for i, e := range entries {
			if a := again[i]; a.Key != e.Key || a.Type != e.Type || string(a.Payload) != string(e.Payload) {
				t.Errorf("%+v is %+v when encoded again", e, a)
			}
		}
	})
}
