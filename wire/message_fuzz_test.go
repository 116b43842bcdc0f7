package wire_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// FuzzMessage checks messages of other programs: they must not make the text panic, and are the same when encoded
// again.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"code":"damaged","args":{"blocks":2,"ranges":[{"from":1,"to":3}]}}`))
	f.Add([]byte(`{"code":"level-waits","args":{"level":1,"next":2,"nodes":["a","b"]}}`))
	f.Add([]byte(`{"code":"repair-failed","args":{"cause":{"code":"text","args":{"detail":"x"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, again wire.Message
		if json.Unmarshal(data, &m) != nil {
			return
		}
		_ = m.Text()
		encoded, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &again); err != nil || again.Text() != m.Text() {
			t.Errorf("%#v is %#v when encoded again: %v", m, again, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, encoded) {
			t.Errorf("%s is %s when encoded again: %v", encoded, twice, err)
		}
	})
}
