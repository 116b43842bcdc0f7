package verify

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestControlCharactersInExport verifies an export with control characters in keys and types. Its files are described
// in masterfsm/testdata/controls.
func TestControlCharactersInExport(t *testing.T) {
	data, err := os.ReadFile("testdata/controls/chain.export")
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile("testdata/controls/log.vkey")
	if err != nil {
		t.Fatal(err)
	}
	trust, err := NewTrust([]string{strings.TrimSpace(string(key))}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Export(t.Context(), bytes.NewReader(data), ExportOptions{Trust: trust})
	if err != nil || !report.Good() || report.Height != 4 || report.Records != 29 || report.Size != 33 {
		t.Errorf("%+v, %v", report, err)
	}
	if len(report.Checkpoints) != 1 || report.Checkpoints[0].Size != 33 || len(report.Checkpoints[0].SignedBy) != 1 {
		t.Errorf("checkpoints %+v", report.Checkpoints)
	}
	const head = "002af663d2835ce0e34165829f4ff050bc09430542a407c49f01a856d9d855ea"
	if report.Hash.String() != head {
		t.Errorf("the head is %v, want %s", report.Hash, head)
	}
	for _, text := range []string{"a\x00b", "a\nb", "a\x1b[31mb", "a\x7fb"} {
		if !bytes.Contains(data, []byte(text)) {
			t.Errorf("no record with %q: this is no test of control characters", text)
		}
	}
}
