package leader

import (
	"reflect"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestDetailOfFinding checks that the code of a node's finding goes into the table if the table accepts both of its
// forms.
func TestDetailOfFinding(t *testing.T) {
	missing := wire.Message{Code: wire.CodeFileMissing, Args: wire.Args{"file": "0.seg"}}
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		finding wire.Finding
		want    masterfsm.Cause
	}{
		"a code":           {wire.NewFinding(1, "missing", missing), masterfsm.Cause(missing)},
		"of an older node": {wire.Finding{Detail: "0.seg is away"}, masterfsm.TextCause("0.seg is away")},
		"of a newer node": {wire.Finding{Detail: "new words", DetailCoded: wire.Message{Code: "of-a-newer-node"}},
			masterfsm.TextCause("new words")},
		"a long argument": {wire.Finding{Detail: "words",
			DetailCoded: wire.Message{Code: wire.CodeFileMissing, Args: wire.Args{"file": long}}},
			masterfsm.TextCause("words")},
		"an argument of no use": {wire.Finding{Detail: "words",
			DetailCoded: wire.Message{Code: wire.CodeFileMissing,
				Args: wire.Args{"file": "", "other": strings.Repeat(long, 5)}}}, masterfsm.TextCause("words")},
		"a long sentence": {wire.Finding{Detail: long}, masterfsm.TextCause(long[:maxDetail] + "…")},
		"none":            {wire.Finding{}, masterfsm.Cause{}},
	} {
		report := &wire.Report{Findings: []wire.Finding{c.finding}}
		if got := findingsOf(report)[0].Detail; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
