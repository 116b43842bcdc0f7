package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/verify/export"
)

// trusting returns the options of the strictest check.
func trusting(t Trust) ExportOptions { return ExportOptions{Trust: t} }

// export writes blocks of the log, possibly modified.
func (l *testLog) export(checkpoints []string, blocks ...chain.Block) []byte {
	l.t.Helper()
	var out bytes.Buffer
	w, err := export.NewWriter(&out, export.Group{ID: "g"}, []string{l.VKey}, checkpoints)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range blocks {
		if err := w.Block(&blocks[i]); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := w.End(l.Verifier.Head()); err != nil {
		l.t.Fatal(err)
	}
	return out.Bytes()
}

func TestExport(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	data := l.export([]string{l.Checkpoint(l.sizes[0]), l.Checkpoint(l.sizes[2])}, l.Blocks...)
	report, err := Export(t.Context(), bytes.NewReader(data), trusting(l.trust()))
	if err != nil || !report.Good() || report.Height != 3 || report.Records != 9 || report.Size != 12 ||
		len(report.Checkpoints) != 2 ||
		len(report.Checkpoints[0].SignedBy) != 1 || report.Difficulty != workBits || len(report.Remarks) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	empty := newTestLog(t)
	if report, err := Export(t.Context(), bytes.NewReader(empty.export([]string{empty.Checkpoint(0)})),
		trusting(empty.trust())); err != nil || !report.Good() {
		t.Errorf("of nothing: %+v, %v", report, err)
	}
}

// newerBlock returns an export whose first block has an unknown future version.
func (l *testLog) newerBlock(checkpoints []string) []byte {
	data := l.export(checkpoints, l.Blocks...)
	header := l.Blocks[0].Header.AppendTo(nil)
	at := bytes.Index(data, header) // within a part: kind u8 ‖ length u32 ‖ data ‖ CRC-32C u32
	start := at - bytes.Index(l.Blocks[0].Bytes(), header)
	end := start + len(l.Blocks[0].Bytes())
	data[at+1] = chain.Version + 1
	binary.BigEndian.PutUint32(data[end:], crc32.Checksum(data[start-5:end], crc32.MakeTable(crc32.Castagnoli)))
	return data
}

func TestExportFindings(t *testing.T) {
	l := newTestLog(t, 3, 1, 5)
	other := l.fork(1, "other", 1, 5)
	stranger, _ := signedlog.Key(l.Origin, 9)
	changed := bytes.Clone(l.Blocks[1].Bytes())
	changed[len(changed)-1] ^= 1
	altered, err := chain.ParseBlock(changed)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{l.Checkpoint(12)}
	for _, c := range []struct {
		name   string
		data   []byte
		trust  Trust
		want   string
		height uint64
	}{
		{"a payload", l.export(good, l.Blocks[0], altered, l.Blocks[2]), l.trust(), CodeRoot, 1},
		{"a block left out", l.export(good, l.Blocks[0], l.Blocks[2]), l.trust(), CodeNumber, 1},
		{"a block of another chain", l.export(good, l.Blocks[0], l.Blocks[1], other.Blocks[2]), l.trust(), CodeLink, 2},
		{"another chain than signed", other.export(good, other.Blocks...), l.trust(), CodeRoot + " " + CodeUnsigned, 3},
		{"an end that is not its own", l.export(good[:0], l.Blocks[:2]...), l.trust(), CodeEnd + " " + CodeUnsigned, 2},
		{"a checkpoint beyond it", l.export(good, l.Blocks[:2]...), l.trust(),
			CodeBoundary + " " + CodeEnd + " " + CodeUnsigned, 2},
		{"a checkpoint within a block", l.export([]string{l.Checkpoint(2)}, l.Blocks...), l.trust(),
			CodeBoundary + " " + CodeUnsigned, 3},
		{"unknown key", l.export([]string{signedlog.Sign(l.Origin, 12, l.Root(12), stranger)}, l.Blocks...),
			l.trust(), CodeUnknownKey + " " + CodeUnsigned, 3},
		{"bad signature", l.export([]string{strings.Replace(good[0], "\n12\n", "\n4\n", 1)}, l.Blocks...), l.trust(),
			CodeSignature + " " + CodeUnsigned, 3},
		{"no checkpoint", l.export([]string{"x"}, l.Blocks...), l.trust(), CodeCheckpoint + " " + CodeUnsigned, 3},
		{"cut", l.export(good, l.Blocks...)[:500], l.trust(), CodeFormat, 0},
		{"newer", append([]byte("CSEX\x02"), l.export(good, l.Blocks...)[5:]...), l.trust(), CodeVersion, 0},
		{"nothing", nil, l.trust(), CodeFormat, 0},
		{"a newer block", l.newerBlock(good), l.trust(), CodeVersion, 0},
	} {
		report, err := Export(t.Context(), bytes.NewReader(c.data), trusting(c.trust))
		if err != nil || codes(report.Findings) != c.want || report.Height != c.height {
			t.Errorf("%s: %v, %v, height %d; want %s and %d", c.name, report.Findings, err, report.Height, c.want,
				c.height)
		}
	}
	broken := errors.New("the disk")
	report, err := Export(t.Context(), iotest.ErrReader(broken), trusting(l.trust()))
	if !errors.Is(err, broken) || !report.Good() {
		t.Errorf("%+v, %v", report, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	report, err = Export(ctx, bytes.NewReader(l.export(good, l.Blocks...)), trusting(l.trust()))
	if !errors.Is(err, broken) || !report.Good() {
		t.Errorf("%+v, %v", report, err)
	}
}
