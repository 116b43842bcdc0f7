package wire

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckStreamID(t *testing.T) {
	for _, id := range []string{"a", "_", "import-7.x_Y", strings.Repeat("x", MaxStreamID)} {
		if err := CheckStreamID(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", "a/b", "a b", "a\n", "ä", "a?", "*", strings.Repeat("x", MaxStreamID+1)} {
		if err := CheckStreamID(id); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
