package inspect

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

func TestStatusOfNothing(t *testing.T) {
	out := statusText(&wire.Cluster{Replicas: 2,
		Masters: []wire.Master{{ID: "a", State: "follower"}, {ID: "b", State: "unknown"}},
		Miners:  []wire.Miner{{ID: "m", URL: "http://m"}}, Notices: []string{"evil \x1b[2J notice"}},
		render.StandardWidth)
	for _, want := range []string{"leader   none known  term 0\n", "height   0 blocks\n", "STORAGE  none\n",
		"m      http://m  ?\n", "! evil ?[2J notice\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestStatusFits checks that no line is wider than 80 columns, however long the names are.
func TestStatusFits(t *testing.T) {
	long := strings.Repeat("very-long-host-name.", 8) + "example:8000"
	c := clitest.SampleStatus()
	for i := range c.Masters {
		c.Masters[i].URL, c.Masters[i].Raft = "https://"+long, long
	}
	for i := range c.Storages {
		c.Storages[i].URL, c.Storages[i].State, c.Storages[i].Height = "https://"+long, "validating", 123_456_789
	}
	c.Head.Height, c.Head.Size = 1_234_567_890, 123_456_789_012
	c.Miners[0].URL = "https://" + long
	out := statusText(&c, render.StandardWidth)
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > render.StandardWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(out, "…") || !strings.Contains(out, "example:8000") {
		t.Errorf("addresses are not shortened in their middle:\n%s", out)
	}
	if wide := statusText(&c, 400); strings.Contains(wide, "…") {
		t.Errorf("shortened where there is room:\n%s", wide)
	}
}

// watchAll runs a watcher with one response per tick, until none is left.
func watchAll(t *testing.T, redraw bool, answers ...any) (out, errs string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ticks := make(chan time.Time, len(answers))
	var outBuf, errsBuf bytes.Buffer
	next := 0
	w := &watcher{
		fetch: func(context.Context) (wire.Cluster, error) {
			if next == len(answers) {
				cancel()
				return wire.Cluster{}, context.Canceled
			}
			next++
			ticks <- time.Time{}
			if err, bad := answers[next-1].(error); bad {
				return wire.Cluster{}, err
			}
			return wire.Cluster{Leader: answers[next-1].(string)}, nil
		},
		print: func(w io.Writer, c *wire.Cluster) error {
			_, err := io.WriteString(w, c.Leader+"\n")
			return err
		},
		ticks: ticks, out: &outBuf, errs: &errsBuf, redraw: redraw, width: render.StandardWidth, between: "--\n",
	}
	if err := w.run(ctx); err != nil {
		t.Fatal(err)
	}
	return outBuf.String(), errsBuf.String()
}

func TestWatch(t *testing.T) {
	dead := errors.New("no master answers")
	out, errs := watchAll(t, false, "one", "one", "two", dead, dead, "two")
	if want := "one\n--\ntwo\n--\ntwo\n--\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	if strings.Count(errs, dead.Error()) != 1 {
		t.Errorf("errors %q: want it once", errs)
	}
	out, errs = watchAll(t, true, "one", "one", dead)
	want := "\x1b[2J" + strings.Repeat("\x1b[Hone\x1b[K\n\x1b[J", 2) +
		"\x1b[Hno status: no master answers\x1b[K\ntrying again every second; Ctrl-C ends\x1b[K\n\x1b[J"
	if out != want || errs != "" {
		t.Errorf("drew %q, want %q", out, want)
	}
}

// TestWatchWidth checks that a row that just fits is printed unchanged, whatever its length in bytes, and that a longer
// message is wrapped.
func TestWatchWidth(t *testing.T) {
	row := "a  …" + strings.Repeat("x", render.StandardWidth-4)
	out, _ := watchAll(t, true, row, errors.New(strings.Repeat("word ", 20)))
	if !strings.Contains(out, row+"\x1b[K\n") {
		t.Errorf("the row is not as it was: %q", out)
	}
	if !strings.Contains(out, "word\x1b[K\nword") {
		t.Errorf("the message is not broken: %q", out)
	}
}

func TestWatchOutputFails(t *testing.T) {
	full := errors.New("no space left")
	for _, redraw := range []bool{false, true} {
		w := &watcher{
			fetch: func(context.Context) (wire.Cluster, error) { return wire.Cluster{}, nil },
			print: func(w io.Writer, _ *wire.Cluster) error {
				_, err := io.WriteString(w, "a status\n")
				return err
			},
			out: failingWriter{full}, redraw: redraw, width: render.StandardWidth,
		}
		if err := w.run(t.Context()); !errors.Is(err, full) {
			t.Errorf("redraw %v: %v", redraw, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
