package signing

import (
	"testing"

	"github.com/chainstore/chainstore/masterfsm"
)

// TestDefaultOrigin checks that a recovered group never gets the default name of the previous log.
func TestDefaultOrigin(t *testing.T) {
	given, _ := newKey(t, "example.com/given", Sealer{Values: []string{"any"}})
	for _, c := range []struct {
		log   LogConfig
		epoch uint64
		want  string
	}{
		{LogConfig{}, 1, "chainstore/g"},
		{LogConfig{}, 2, "chainstore/g/2"},
		{LogConfig{}, 12, "chainstore/g/12"},
		{LogConfig{Origin: "example.com/log"}, 2, "example.com/log"},
		{LogConfig{Key: given}, 2, "example.com/given"},
	} {
		if k, err := c.log.FirstKey(masterfsm.Group{ID: "g", Epoch: c.epoch}); err != nil || k.Origin() != c.want {
			t.Errorf("epoch %d: %v, %v, want %s", c.epoch, k, err, c.want)
		}
	}
}
