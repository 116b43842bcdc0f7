package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

// TestAppendLinesContinues runs the command several times with one stream and longer inputs. Every line must be
// appended once.
func TestAppendLinesContinues(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	appendLines := func(in string, args ...string) (out, errs string) {
		t.Helper()
		out, errs, err := run(t, strings.NewReader(in), append([]string{"append", "--lines", "--stream", "import-7"},
			args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return steady(out), errs
	}
	for _, test := range []struct{ in, want string }{
		{"a\nb\n", "2 records appended, from block 0, offset 0 to block 0, offset 1, in TIME (RATE)\n"},
		{"a\nb\n\nc\n",
			"1 record appended at block 0, offset 2, in TIME (RATE); 2 records already there; 1 empty line skipped\n"},
		{"a\nb\nc\n", "0 records appended, in TIME (RATE); 3 records already there\n"},
		{"a\nb\nc\nd\ne\n",
			"2 records appended, from block 0, offset 3 to block 1, offset 0, in TIME (RATE); " +
				"3 records already there\n"},
	} {
		if out, errs := appendLines(test.in); out != test.want || errs != "" {
			t.Errorf("%q: %q, %q; want %q", test.in, out, errs, test.want)
		}
	}
	out, errs := appendLines("a\nb\nc\nd\ne\nf\n", "--json")
	if errs != "5 records already there\n" {
		t.Errorf("--json: %q", errs)
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	for i := range 6 {
		var a wire.StreamAnswer
		if err := decoder.Decode(&a); err != nil || a.Number != uint64(i+1) || a.Index != f.Records[i].Index {
			t.Errorf("position %d: %+v, %v", i+1, a, err)
		}
	}
	if want := []string{"a", "b", "c", "d", "e", "f"}; !slices.Equal(f.Payloads(), want) {
		t.Errorf("payloads %q, want %q", f.Payloads(), want)
	}
	for in, want := range map[string]string{
		"a\nb\n": `the input has 2 records, and the stream "import-7" has 6`,
		"a\nb\nX\nd\ne\nf\ng\n": `line 3 is not what the stream "import-7" has: continue it with the same input, ` +
			"--key and --type, or use another name: ",
	} {
		_, _, err := run(t, strings.NewReader(in), "append", "--lines", "--stream", "import-7")
		clitest.MustFail(t, err, want)
		clitest.MustFail(t, err, "; 2 records are acknowledged, up to line 2")
	}
	if n := len(f.Payloads()); n != 6 {
		t.Errorf("%d records", n)
	}
}

// TestAppendLinesPassesOldRecords continues a stream with more records than it has positions of.
func TestAppendLinesPassesOldRecords(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	var in strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	first := strings.Join(strings.SplitAfter(in.String(), "\n")[:2000], "")
	if _, _, err := run(t, strings.NewReader(first), "append", "--lines", "--stream", "s"); err != nil {
		t.Fatal(err)
	}
	out, errs, err := run(t, strings.NewReader(in.String()), "append", "--lines", "--stream", "s", "--json")
	if err != nil || errs != "2000 records already there\n" {
		t.Errorf("%q, %v", errs, err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if n := len(lines); n != 1024+1000 || !strings.HasPrefix(lines[0], `{"number":977,"block":`) ||
		!strings.HasPrefix(lines[n-1], `{"number":3000,"block":`) {
		t.Errorf("%d positions, from %s to %s", n, lines[0], lines[n-1])
	}
	for i, p := range f.Payloads() {
		if p != fmt.Sprintf("line %d", i) {
			t.Fatalf("record %d is %q", i, p)
		}
	}
}

// TestAppendLinesInterruptedStream interrupts the command and runs it again: every line is appended once.
func TestAppendLinesInterruptedStream(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	var in strings.Builder
	const lines = 5000
	for i := range lines {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	for parts := 1; ; parts++ {
		ctx, cancel := context.WithCancel(t.Context())
		left := 2
		f.Change(func() {
			f.After = func(http.ResponseWriter) bool {
				if left--; left == 0 && parts < 4 {
					cancel()
				}
				return false
			}
		})
		_, _, err := runContext(ctx, strings.NewReader(in.String()), "append", "--lines", "--stream", "s")
		cancel()
		if err == nil {
			break
		}
		clitest.MustFail(t, err, "stopped; ")
		clitest.MustFail(t, err, "; the same command continues")
	}
	got := f.Payloads()
	if len(got) != lines {
		t.Fatalf("%d records", len(got))
	}
	for i, p := range got {
		if p != fmt.Sprintf("line %d", i) {
			t.Fatalf("record %d is %q", i, p)
		}
	}
}

// TestAppendLinesStreamRefused checks the errors of --stream.
func TestAppendLinesStreamRefused(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	for _, test := range []struct {
		in   string
		args []string
		want string
	}{
		{"a", []string{"--stream", "s"}, "--stream goes with --lines only"},
		{"a", []string{"--lines", "--stream", "a/b"}, `"a/b" is not the id of an append stream`},
	} {
		_, _, err := run(t, strings.NewReader(test.in), append([]string{"append"}, test.args...)...)
		clitest.MustFail(t, err, test.want)
	}
	f.RecordBytes = 10
	_, _, err := run(t, strings.NewReader("one\n\ntwo\nmuch too long\nfour\n"), "append", "--lines", "--stream", "s")
	clitest.MustFail(t, err, "line 4 was not appended: number 3: ")
	clitest.MustFail(t, err, "Too large")
	clitest.MustFail(t, err, "; 2 records are acknowledged, up to line 3")
	if want := []string{"one", "two"}; !slices.Equal(f.Payloads(), want) {
		t.Errorf("payloads %q, want %q", f.Payloads(), want)
	}
}

// TestAppendLinesWithoutStreams checks that lines are appended in batches if the masters have no append streams, and
// that a named stream is refused then.
func TestAppendLinesWithoutStreams(t *testing.T) {
	for _, p := range []*wire.ProblemType{wire.ErrNoStreams, wire.ErrNoSuchRoute, wire.ErrMethod} {
		f := clitest.NewCluster(t)
		f.Use(t)
		f.Streamless = p
		out, _, err := run(t, strings.NewReader("a\nb\n"), "append", "--lines")
		if err != nil || !strings.HasPrefix(out, "2 records appended") {
			t.Errorf("%s: %q, %v", p.Name, out, err)
		}
		_, _, err = run(t, strings.NewReader("a\nb\n"), "append", "--lines", "--stream", "s")
		clitest.MustFail(t, err, "--stream s: ")
		if want := []string{"a", "b"}; !slices.Equal(f.Payloads(), want) {
			t.Errorf("%s: payloads %q, want %q", p.Name, f.Payloads(), want)
		}
	}
}
