package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

// steady removes the times from a summary.
func steady(s string) string {
	return regexp.MustCompile(`in \S+ \(\d+ records/s\)`).ReplaceAllString(s, "in TIME (RATE)")
}

func TestAppendWhole(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	file := clitest.WriteFile(t, "cover.png", "\x89PNG\r\n\n")
	tests := []struct {
		in   string
		args []string
		want string
	}{
		{"hello\n", nil, "1 record appended at block 0, offset 0 (index 0), committed\n"},
		{"", []string{"--key", "cover", "--type", "image/png", file},
			"1 record appended at block 0, offset 1 (index 1), committed\n"},
		{"once", []string{"--idempotency-key", "K"}, "1 record appended at block 0, offset 2 (index 2), committed\n"},
		{"once", []string{"--idempotency-key", "K"}, "1 record appended at block 0, offset 2 (index 2), committed\n"},
		{"stored", []string{"--wait", "-"}, "1 record appended at block 0, offset 3 (index 3), stored\n"},
	}
	for _, test := range tests {
		out, errs, err := run(t, strings.NewReader(test.in), append([]string{"append"}, test.args...)...)
		if err != nil || out != test.want || errs != "" {
			t.Errorf("append %q: %q, %q, %v; want %q", test.args, out, errs, err, test.want)
		}
	}
	if want := []string{"hello\n", "\x89PNG\r\n\n", "once", "stored"}; !slices.Equal(f.Payloads(), want) {
		t.Errorf("payloads %q, want %q", f.Payloads(), want)
	}
	if r := f.Records[1]; r.Key != "cover" || r.Type != "image/png" {
		t.Errorf("key %q, type %q", r.Key, r.Type)
	}

	out, _, err := run(t, strings.NewReader("x"), "append", "--json")
	var at wire.Position
	if err != nil || json.Unmarshal([]byte(out), &at) != nil || at.Block != 1 || at.Index != 5 ||
		strings.Count(out, "\n") != 1 {
		t.Errorf("--json: %q, %v", out, err)
	}
}

func TestAppendRefused(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.RecordBytes = 10
	tests := []struct {
		in   string
		args []string
		want string
	}{
		{"", nil, "the input is empty"},
		{"", []string{t.TempDir()}, "is a folder: name a file"},
		{"", []string{"nowhere.txt"}, "nowhere.txt: no such file"},
		{"a", []string{"--keep-newlines"}, "--keep-newlines goes with --lines only"},
		{"a", []string{"--lines", "--idempotency-key", "k"}, "does not go with --lines"},
		{"a", []string{"--wait", "--timeout", "0"}, "--timeout 0s is not more than 0"},
		{"more than ten", nil, "Too large (HTTP 413)"},
		{"a", []string{"--key", "\xff"}, "the key is not UTF-8"},
		{"a", []string{"--key", "a\nb"}, "the key has the control character 0x0a at byte 1"},
		{"a\n", []string{"--lines", "--type", "t\x7f"}, "the type has the control character 0x7f at byte 1"},
		{"a", []string{"one", "two"}, "accepts at most 1 arg"},
	}
	for _, test := range tests {
		out, _, err := run(t, strings.NewReader(test.in), append([]string{"append"}, test.args...)...)
		clitest.MustFail(t, err, test.want)
		if out != "" {
			t.Errorf("append %q printed %q", test.args, out)
		}
	}
	t.Setenv(cli.EnvToken, "another-token")
	_, _, err := run(t, strings.NewReader("a"), "append")
	clitest.MustFail(t, err, "Token missing or unknown")
	_, _, err = run(t, strings.NewReader("a\nb\n"), "append", "--lines")
	clitest.MustFail(t, err, "line 1 was not appended: ")
	clitest.MustFail(t, err, "no record is acknowledged")
	if len(f.Payloads()) != 0 {
		t.Errorf("appended %q", f.Payloads())
	}
}

// TestAppendUnknownOutcome checks that an append of unknown outcome names the key with which to repeat it, and that the
// repetition appends once.
func TestAppendUnknownOutcome(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.After = func(w http.ResponseWriter) bool {
		return clitest.InternalError(w)
	}
	_, _, err := run(t, strings.NewReader("a"), "append")
	clitest.MustFail(t, err, "may or may not have been appended: give the same input again with --idempotency-key ")
	key := err.Error()[strings.LastIndex(err.Error(), "--idempotency-key ")+len("--idempotency-key "):]
	key, _, _ = strings.Cut(key, ",")
	f.Change(func() { f.After = nil })
	if _, _, err := run(t, strings.NewReader("a"), "append", "--idempotency-key", key); err != nil {
		t.Fatal(err)
	}
	if len(f.Payloads()) != 1 {
		t.Errorf("%d records, not 1", len(f.Payloads()))
	}
}

func TestAppendWaitTooLong(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.Status.Stored, f.Unstored = 0, true
	for _, args := range [][]string{nil, {"--lines"}} {
		out, _, err := run(t, strings.NewReader("a\nb\n"),
			append([]string{"append", "--wait", "--timeout", "20ms"}, args...)...)
		clitest.MustFail(t, err, "appended, and not stored within 20ms: a majority of the masters has it, so do "+
			"not append it again")
		if !strings.Contains(out, "appended") {
			t.Errorf("%q: the position is missing: %q", args, out)
		}
	}
}

func TestAppendLines(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	out, errs, err := run(t, strings.NewReader("a\r\n\nb\n\nc"), "append", "--lines", "--wait", "--key", "k")
	want := "3 records appended, from block 0, offset 0 to block 0, offset 2, in TIME (RATE); 2 empty lines skipped\n"
	if err != nil || steady(out) != want || errs != "" {
		t.Errorf("got %q, %q, %v; want %q", out, errs, err, want)
	}
	if r := f.Records[1]; r.Key != "k" || r.Type != clitest.TextType {
		t.Errorf("key %q, type %q", r.Key, r.Type)
	}
	out, _, err = run(t, strings.NewReader("d\n"), "append", "--lines", "--type", "x/y", "--keep-newlines")
	if want := "1 record appended at block 0, offset 3, in TIME (RATE)\n"; err != nil || steady(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
	if want := []string{"a", "b", "c", "d\n"}; !slices.Equal(f.Payloads(), want) {
		t.Errorf("payloads %q, want %q", f.Payloads(), want)
	}
	out, _, err = run(t, strings.NewReader("\n"), "append", "--lines", "--wait")
	if want := "0 records appended, in TIME (RATE); 1 empty line skipped\n"; err != nil || steady(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

// TestAppendManyLines appends more lines than fit into a batch and into the read-ahead buffer. Each must be appended in
// order and have its position.
func TestAppendManyLines(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	const lines = 1<<15 + 7 // more than the read-ahead buffer holds
	var in strings.Builder
	for i := range lines {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	out, errs, err := run(t, nil, "append", "--lines", "--json", clitest.WriteFile(t, "many.log", in.String()+"\n"))
	if err != nil || errs != "1 empty line skipped\n" {
		t.Fatalf("%q, %v", errs, err)
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	for i := range lines {
		var at wire.Position
		if err := decoder.Decode(&at); err != nil {
			t.Fatal(err)
		}
		want := f.Position(&f.Records[i])
		want.State = wire.StateCommitted
		if payload := f.Records[i].Payload; at != want || string(payload) != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d: position %+v, record %q at %+v", i, at, payload, want)
		}
	}
	if len(f.Records) != lines || decoder.More() {
		t.Errorf("%d records", len(f.Records))
	}
}

// TestAppendLinesRefused checks that a refused record stops the command. Records in the same batch or in flight are
// appended and reported.
func TestAppendLinesRefused(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.RecordBytes = 10
	in, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "one\ntwo\nmuch too long\nfour\n") }() // the pipe stays open
	out, _, err := run(t, in, "append", "--lines")
	_ = in.Close() // ends the goroutine and the reader
	clitest.MustFail(t, err, "line 3 was not appended: ")
	clitest.MustFail(t, err, "Too large")
	if got := f.Payloads(); len(got) < 2 || got[0] != "one" || got[1] != "two" ||
		slices.Contains(got, "much too long") {
		t.Errorf("payloads %q", got)
	} else {
		clitest.MustFail(t, err, fmt.Sprintf("%d records are acknowledged, up to line ", len(got)))
	}
	if out != "" {
		t.Errorf("printed %q", out)
	}
}

func TestAppendLineTooLong(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	_, _, err := run(t, strings.NewReader("one\n"+strings.Repeat("x", wire.MaxBatchBytes)+"\nthree\n"), "append",
		"--lines")
	clitest.MustFail(t, err, "line 2 has more than ")
	clitest.MustFail(t, err, "append it alone, without --lines; 1 record is acknowledged, up to line 1")
	if got := f.Payloads(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("payloads %q", got)
	}
}

// TestAppendLinesUnknownOutcome checks the error of a second batch that fails, whether it was executed or not. It must
// report the acknowledged lines and those of unknown outcome.
func TestAppendLinesUnknownOutcome(t *testing.T) {
	for _, done := range []bool{false, true} {
		f := clitest.NewCluster(t)
		f.Use(t)
		fail := func(w http.ResponseWriter) bool {
			if f.Appended() == 0 || done && f.Appended() < 2 {
				return false
			}
			return clitest.InternalError(w)
		}
		if done {
			f.After = fail
		} else {
			f.Before = func(w http.ResponseWriter, _ int) bool { return fail(w) }
		}
		const lines = wire.MaxBatchRecords + 500
		_, _, err := run(t, strings.NewReader(strings.Repeat("x\n", lines)), "append", "--lines")
		clitest.MustFail(t, err, "Internal error")
		known := 0 // records of the first batch, which may have had any number of lines
		if _, err := fmt.Sscanf(err.Error()[strings.Index(err.Error(), "; ")+2:], "%d record", &known); err != nil {
			t.Fatal(err)
		}
		acked := "records are"
		if known == 1 {
			acked = "record is"
		}
		clitest.MustFail(t, err, fmt.Sprintf("%d %s acknowledged, up to line %d; lines %d to ", known, acked, known,
			known+1))
		clitest.MustFail(t, err, " may or may not have been appended")
		if got := len(f.Payloads()); !done && got != known || done && got <= known {
			t.Errorf("carried out %v: %d records, %d acknowledged", done, got, known)
		}
	}
}

// TestAppendLinesInterrupted checks that an interrupt stops a command whose input continues, and that all acknowledged
// records are reported and appended.
func TestAppendLinesInterrupted(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.After = func(http.ResponseWriter) bool { cancel(); return false }
	in, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "one\n") }()
	_, _, err := runContext(ctx, in, "append", "--lines")
	_ = in.Close()
	clitest.MustFail(t, err, "stopped; 1 record is acknowledged, up to line 1")
	if got := f.Payloads(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("payloads %q", got)
	}

	in, _ = io.Pipe()
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, _, err = runContext(ctx, in, "append")
	_ = in.Close()
	clitest.MustFail(t, err, "nothing was appended")
}

// TestAppendLinesInterruptedTwice checks that the first interrupt waits for the answers, and that the second one ends
// the command at once and says which lines are known to be appended.
func TestAppendLinesInterruptedTwice(t *testing.T) {
	ignored := make(chan os.Signal, 8) // an interrupt must not end the tests
	signal.Notify(ignored, os.Interrupt)
	defer signal.Stop(ignored)
	for _, stream := range [][]string{nil, {"--stream", "s"}} {
		for _, twice := range []bool{false, true} {
			f := clitest.NewCluster(t)
			f.Use(t)
			gate, reached := make(chan struct{}), make(chan struct{})
			parts := 0
			f.After = func(http.ResponseWriter) bool {
				if parts++; parts == 2 {
					close(reached)
					<-gate
				}
				return false
			}
			in, w := io.Pipe()
			said := newWaiting("stopping: no more lines are read; waiting for the answers to 1 line; interrupt again")
			ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
			cmd := newRootCommand()
			cmd.SetArgs(append([]string{"append", "--lines", "--json"}, stream...))
			out := newWaiting("}\n")
			cmd.SetIn(in)
			cmd.SetOut(out)
			cmd.SetErr(said)
			ended := make(chan error, 1)
			go func() { ended <- cmd.ExecuteContext(ctx) }()
			interrupt := func() {
				if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
			}
			_, _ = io.WriteString(w, "one\n")
			<-out.seen
			_, _ = io.WriteString(w, "\ntwo\n")
			<-reached
			interrupt()
			<-said.seen
			if twice {
				interrupt()
			} else {
				close(gate)
			}
			err := <-ended
			want := "stopped; 2 records are acknowledged, up to line 3"
			if twice {
				close(gate)
				want = "stopped; 1 record is acknowledged, up to line 1; lines 3 to 3 may or may not have been appended"
			}
			clitest.MustFail(t, err, want)
			_ = in.Close()
			stop()
		}
	}
}

// waiting is an output that tells when a text was written to it.
type waiting struct {
	mu   sync.Mutex
	text string
	want string
	seen chan struct{} // closed then
}

func newWaiting(want string) *waiting { return &waiting{want: want, seen: make(chan struct{})} }

func (w *waiting) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.text, w.want)
	w.text += string(p)
	if !before && strings.Contains(w.text, w.want) {
		close(w.seen)
	}
	return len(p), nil
}

// TestAppendOutputFails checks that the command stops if it cannot write the positions.
func TestAppendOutputFails(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	full := errors.New("no space left")
	in, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "one\n") }()
	cmd := newRootCommand()
	cmd.SetArgs([]string{"append", "--lines", "--json"})
	cmd.SetIn(in)
	cmd.SetOut(failingWriter{full})
	err := cmd.ExecuteContext(t.Context())
	_ = in.Close()
	if !errors.Is(err, full) {
		t.Fatal(err)
	}
	clitest.MustFail(t, err, "write the positions: no space left; 1 record is acknowledged, up to line 1")
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
