package cli

import (
	"strings"
	"testing"
)

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, " YES \n": true, "yes": true, "n\n": false, "\n": false,
		"": false, "yeah\n": false} {
		var asked strings.Builder
		sure, err := Confirm(strings.NewReader(answer), &asked, "sure? ")
		if err != nil || sure != want || asked.String() != "sure? " {
			t.Errorf("%q: %v, %v, asked %q", answer, sure, err, asked.String())
		}
	}
}
