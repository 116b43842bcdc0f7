package verify

import (
	"bytes"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/signedlog"
)

// trustOf returns a Trust with keys, witnesses and a quorum.
func trustOf(t *testing.T, keys, witnesses []string, quorum int) Trust {
	t.Helper()
	trust, err := NewTrust(keys, witnesses, quorum)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// TestExportOfBlocksThatNoKeySigned checks that Export accepts no block that is not covered by a checkpoint of a named
// key. Log l is the genuine one: its 3 blocks end at 4, 6 and 12 leaves.
func TestExportOfBlocksThatNoKeySigned(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	forged := l.fork(2, "forged", 5) // another block in place of the last
	longer := l.fork(3, "forged", 2) // another block after the last
	foreign := newTestLog(t).fork(0, "Mallory's", 3, 1, 5)
	strangerSigner, strangerKey := signedlog.Key("chainstore/stranger", 9)
	witness, witnessKey := testWitness(t, "witness.example/w", 7)
	other, otherKey := testWitness(t, "witness.example/v", 8)
	strangers := func(of *testLog, size uint64) string {
		return signedlog.Sign("chainstore/stranger", size, of.Root(size), strangerSigner)
	}
	key := []string{l.VKey}
	for _, c := range []struct {
		name  string
		data  []byte
		trust Trust
		want  string // codes of the findings
		says  string // in the last finding
	}{
		{"no checkpoint", foreign.export(nil, foreign.Blocks...), l.trust(), CodeUnsigned,
			"the file holds no signed checkpoint"},
		{"no checkpoint, a witness asked for", foreign.export(nil, foreign.Blocks...), trustOf(t, key,
			[]string{witnessKey}, 1), CodeUnsigned, "holds no signed checkpoint"},
		{"no checkpoint, a witness and no key", foreign.export(nil, foreign.Blocks...), trustOf(t, nil,
			[]string{witnessKey}, 1), CodeUnsigned, "holds no signed checkpoint"},
		{"no checkpoint, no quorum", foreign.export(nil, foreign.Blocks...), trustOf(t, key, []string{witnessKey}, 0),
			CodeUnsigned, "holds no signed checkpoint"},
		{"no checkpoint, no block", newTestLog(t).export(nil), l.trust(), CodeUnsigned, "holds no signed checkpoint"},
		{"forged blocks behind", longer.export([]string{l.Checkpoint(12)}, longer.Blocks...), l.trust(), CodeUnsigned,
			"block 3 (leaves 12 to 14)"},
		{"forged blocks in place of the last", forged.export([]string{l.Checkpoint(6)}, forged.Blocks...), l.trust(),
			CodeUnsigned, "block 2 (leaves 6 to 11)"},
		{"forged blocks under the true checkpoint", forged.export([]string{l.Checkpoint(12)}, forged.Blocks...),
			l.trust(), CodeRoot + " " + CodeUnsigned, "blocks 0 to 2 (leaves 0 to 11)"},
		{"a smaller checkpoint", l.export([]string{l.Checkpoint(4)}, l.Blocks...), l.trust(), CodeUnsigned,
			"blocks 1 to 2 (leaves 4 to 11)"},
		{"a checkpoint of nothing", foreign.export([]string{l.Checkpoint(0)}, foreign.Blocks...), l.trust(),
			CodeUnsigned, "blocks 0 to 2 (leaves 0 to 11)"},
		{"an altered checkpoint of nothing", newTestLog(t).export([]string{signedlog.Sign(l.Origin, 0, l.Root(4),
			l.Signer)}), l.trust(), CodeRoot + " " + CodeUnsigned, "covers"},
		{"several checkpoints, none of the end", l.export([]string{l.Checkpoint(4), l.Checkpoint(6)}, l.Blocks...),
			l.trust(), CodeUnsigned, "block 2 (leaves 6 to 11)"},
		{"several checkpoints", l.export([]string{l.Checkpoint(4), l.Checkpoint(12), l.Checkpoint(6)}, l.Blocks...),
			l.trust(), "", ""},
		{"a checkpoint within the last block", l.export([]string{l.Checkpoint(6), l.Checkpoint(9)}, l.Blocks...),
			l.trust(), CodeBoundary + " " + CodeUnsigned, "block 2 (leaves 6 to 11)"},
		{"signed by another key", foreign.export([]string{strangers(foreign, 12)}, foreign.Blocks...), l.trust(),
			CodeUnknownKey + " " + CodeUnsigned, "blocks 0 to 2 (leaves 0 to 11)"},
		{"the end signed by another key", longer.export([]string{l.Checkpoint(12), strangers(longer, 15)},
			longer.Blocks...), l.trust(), CodeUnknownKey + " " + CodeUnsigned, "block 3 (leaves 12 to 14)"},
		{"the end signed by another key that is named", l.export([]string{l.Checkpoint(12), strangers(l, 6)},
			l.Blocks...), trustOf(t, []string{l.VKey, strangerKey}, nil, 0), "", ""},
		{"a witness asked for who did not sign", l.export([]string{l.Checkpoint(12)}, l.Blocks...), trustOf(t, key,
			[]string{witnessKey}, 1), CodeWitnesses + " " + CodeUnsigned, "blocks 0 to 2 (leaves 0 to 11)"},
		{"witnessed", l.export([]string{l.Checkpoint(12, witness)}, l.Blocks...), trustOf(t, key,
			[]string{witnessKey}, 1), "", ""},
		{"witnessed by one of two", l.export([]string{l.Checkpoint(12, witness)}, l.Blocks...), trustOf(t, key,
			[]string{witnessKey, otherKey}, 2), CodeWitnesses + " " + CodeUnsigned, "blocks 0 to 2"},
		{"witnessed by both, the end not", longer.export([]string{l.Checkpoint(12, witness, other)},
			longer.Blocks...), trustOf(t, key, []string{witnessKey, otherKey}, 2), CodeUnsigned,
			"block 3 (leaves 12 to 14)"},
		{"witnessed, without the log's key", l.export([]string{l.Checkpoint(12, witness)}, l.Blocks...), trustOf(t,
			nil, []string{witnessKey}, 1), CodeUnknownKey + " " + CodeUnsigned, "blocks 0 to 2"},
		{"no key", l.export([]string{l.Checkpoint(12)}, l.Blocks...), Trust{}, CodeUnknownKey + " " + CodeUnsigned,
			"blocks 0 to 2 (leaves 0 to 11)"},
		{"no key, no checkpoint", l.export(nil, l.Blocks...), Trust{}, CodeUnsigned, "holds no signed checkpoint"},
	} {
		report, err := Export(t.Context(), bytes.NewReader(c.data), trusting(c.trust))
		if err != nil || codes(report.Findings) != c.want || report.Good() != (c.want == "") {
			t.Errorf("%s: %v, %v; want %q", c.name, report.Findings, err, c.want)
		} else if c.want != "" && !strings.Contains(report.Findings[len(report.Findings)-1].Text, c.says) {
			t.Errorf("%s: %v; want %q", c.name, report.Findings, c.says)
		}
	}
}

// TestExportCutAndForged checks that an export that was truncated and continued with forged blocks is treated like one
// that was only continued.
func TestExportCutAndForged(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	for kept := range 4 {
		forged := l.fork(kept, "forged", 7, 2)
		data := forged.export([]string{l.Checkpoint(12)}, forged.Blocks...)
		report, err := Export(t.Context(), bytes.NewReader(data), trusting(l.trust()))
		if err != nil || report.Good() || !strings.Contains(codes(report.Findings), CodeUnsigned) {
			t.Errorf("%d blocks kept: %v, %v", kept, report.Findings, err)
		}
	}
}

// TestExportAfterKeysChanged checks that an earlier key of a log still verifies what it signed at that time.
func TestExportAfterKeysChanged(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	second, secondKey := signedlog.Key(l.Origin, 2)
	only := signedlog.Sign(l.Origin, 12, l.Root(12), second)
	for _, c := range []struct {
		name        string
		checkpoints []string
		keys        []string
		want        string
	}{
		{"before the change, by the first", []string{l.Checkpoint(12)}, []string{l.VKey}, ""},
		{"before the change, by the second", []string{l.Checkpoint(12)}, []string{secondKey},
			CodeUnknownKey + " " + CodeUnsigned},
		{"while both sign, by the first", []string{l.Checkpoint(12, second)}, []string{l.VKey}, ""},
		{"while both sign, by the second", []string{l.Checkpoint(12, second)}, []string{secondKey}, ""},
		{"when the first is retired, by the second", []string{only}, []string{secondKey}, ""},
		{"when the first is retired, by the first", []string{only}, []string{l.VKey},
			CodeUnknownKey + " " + CodeUnsigned},
		{"one of each, by both", []string{l.Checkpoint(4), only}, []string{l.VKey, secondKey}, ""},
		{"one of each, by the second", []string{l.Checkpoint(4), only}, []string{secondKey}, CodeUnknownKey},
		{"one of each, by the first", []string{l.Checkpoint(4), only}, []string{l.VKey},
			CodeUnknownKey + " " + CodeUnsigned},
	} {
		data := l.export(c.checkpoints, l.Blocks...)
		report, err := Export(t.Context(), bytes.NewReader(data), trusting(trustOf(t, c.keys, nil, 0)))
		if err != nil || codes(report.Findings) != c.want {
			t.Errorf("%s: %v, %v; want %q", c.name, report.Findings, err, c.want)
		}
	}
}

// TestExportAllowed checks that a check is omitted only if the options name it, and that the report shows the omission.
func TestExportAllowed(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	longer := l.fork(3, "forged", 2, 2)
	witness, witnessKey := testWitness(t, "witness.example/w", 7)
	tail := ExportOptions{Trust: l.trust(), AllowUnsignedTail: true}
	witnessed := ExportOptions{Trust: trustOf(t, []string{l.VKey}, []string{witnessKey}, 1), AllowUnsignedTail: true,
		AllowNoKey: true}
	noKey := ExportOptions{AllowNoKey: true, AllowUnsignedTail: true}
	const named, none = "covers blocks 3 to 4 (leaves 12 to 17)", "the file holds no signed checkpoint"
	for _, c := range []struct {
		name    string
		data    []byte
		o       ExportOptions
		want    string // codes of the findings
		remark  string // the first remark, if there are no findings
		checked bool
		signed  uint64 // blocks
	}{
		{"a tail", longer.export([]string{l.Checkpoint(12)}, longer.Blocks...), tail, "", named, true, 3},
		{"a witnessed tail", longer.export([]string{l.Checkpoint(12, witness)}, longer.Blocks...), witnessed, "",
			named, true, 3},
		{"no tail", l.export([]string{l.Checkpoint(12)}, l.Blocks...), tail, "", "difficulty", true, 3},
		{"a tail behind nothing", l.export([]string{l.Checkpoint(0)}, l.Blocks...), tail, CodeUnsigned, "", true, 0},
		{"no checkpoint", l.export(nil, l.Blocks...), tail, CodeUnsigned, "", false, 0},
		{"another root", longer.fork(2, "x", 5, 2).export([]string{l.Checkpoint(12)}, longer.fork(2, "x", 5,
			2).Blocks...), tail, CodeRoot + " " + CodeUnsigned, "", true, 0},
		{"no quorum", longer.export([]string{l.Checkpoint(12)}, longer.Blocks...), witnessed,
			CodeWitnesses + " " + CodeUnsigned, "", true, 0},
		{"no checkpoint, so no quorum", longer.export(nil, longer.Blocks...), witnessed, CodeUnsigned, "", false, 0},
		{"a witness and no key", l.export(nil, l.Blocks...), ExportOptions{Trust: trustOf(t, nil,
			[]string{witnessKey}, 0), AllowNoKey: true}, CodeUnsigned, "", false, 0},
		{"no key", l.export([]string{l.Checkpoint(12)}, l.Blocks...), noKey, "", "no key was named", false, 0},
		{"no key, no checkpoint", l.export(nil, l.Blocks...), noKey, "", none, false, 0},
		{"no key, a tail", longer.export([]string{l.Checkpoint(12)}, longer.Blocks...), noKey, "", "no key was named",
			false, 0},
		{"no key, another root", longer.export([]string{signedlog.Sign(l.Origin, 12, l.Root(6), l.Signer)},
			longer.Blocks...), noKey, CodeRoot, "", false, 0},
		{"no key, no checkpoint in its place", l.export([]string{"x"}, l.Blocks...), noKey, CodeCheckpoint, "", false,
			0},
		{"a key, and none needed", l.export(nil, l.Blocks...), ExportOptions{Trust: l.trust(), AllowNoKey: true},
			CodeUnsigned, "", false, 0},
		{"the zero value", l.export([]string{l.Checkpoint(12)}, l.Blocks...), ExportOptions{},
			CodeUnknownKey + " " + CodeUnsigned, "", false, 0},
	} {
		report, err := Export(t.Context(), bytes.NewReader(c.data), c.o)
		if err != nil || codes(report.Findings) != c.want || report.SignaturesChecked != c.checked ||
			report.SignedHeight != c.signed {
			t.Errorf("%s: %+v, %v; want %q", c.name, report, err, c.want)
		} else if c.want == "" && !strings.Contains(report.Remarks[0], c.remark) {
			t.Errorf("%s: %q; want %q", c.name, report.Remarks, c.remark)
		}
		if !report.SignaturesChecked {
			if all := strings.Join(report.Remarks, " "); strings.Contains(all, "the signature, and witnesses, show") {
				t.Errorf("%s: no signature was checked, and the remarks are %q", c.name, all)
			}
			for _, cp := range report.Checkpoints {
				if len(cp.SignedBy)+len(cp.CosignedBy) > 0 {
					t.Errorf("%s: no signature was checked, and %+v says who has signed", c.name, cp)
				}
			}
		}
	}
}

// TestLogBehindItsCheckpoint checks that a running log is verified up to its checkpoint, and that the report does not
// cover data that it serves beyond.
func TestLogBehindItsCheckpoint(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	forged := l.fork(3, "forged", 300)
	forged.size = 12 // the checkpoint is the genuine one, byte for byte
	report, state, err := forged.audit(forged.serve(), nil)
	if err != nil || !report.Good() || report.Height != 3 || report.Size != 12 || !report.SignaturesChecked ||
		report.SignedHeight != 3 || report.SignedSize != 12 {
		t.Errorf("%+v, %v", report, err)
	}
	if state == nil || state.Head.Tree.Size() != 12 {
		t.Errorf("state %+v", state)
	}
	for _, trust := range []Trust{{}, trustOf(t, []string{vkeyOf(t, l.Origin, 9)}, nil, 0)} {
		report, err := Log(t.Context(), Options{URL: forged.serve(), Trust: trust})
		if err != nil || codes(report.Findings) != CodeUnknownKey || report.SignedSize != 0 || report.Height != 0 {
			t.Errorf("%+v, %v", report, err)
		}
	}
}

// TestReceiptThatNoKeySigned checks that a receipt is invalid if no named key has signed its checkpoint, or if no key
// is named.
func TestReceiptThatNoKeySigned(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	witness, witnessKey := testWitness(t, "witness.example/w", 7)
	for _, c := range []struct {
		name       string
		checkpoint string
		trust      Trust
		want       string
	}{
		{"no key", l.Checkpoint(12), Trust{}, CodeUnknownKey},
		{"another key", l.Checkpoint(12), trustOf(t, []string{vkeyOf(t, l.Origin, 9)}, nil, 0), CodeUnknownKey},
		{"a witness and no key", l.Checkpoint(12, witness), trustOf(t, nil, []string{witnessKey}, 1), CodeUnknownKey},
		{"no checkpoint", "", l.trust(), CodeCheckpoint},
		{"a checkpoint of a tree before it", l.Checkpoint(6), l.trust(),
			CodeTreeSize + " " + CodeRoot + " " + CodeSealPath},
	} {
		r := l.receipt(2, 1, 12)
		r.Checkpoint = c.checkpoint
		if report := Receipt(mustJSON(t, r), c.trust, nil); report.Good() || codes(report.Findings) != c.want {
			t.Errorf("%s: %v; want %q", c.name, report.Findings, c.want)
		}
	}
}

func vkeyOf(t *testing.T, name string, seed byte) string {
	t.Helper()
	_, vkey := signedlog.Key(name, seed)
	return vkey
}
