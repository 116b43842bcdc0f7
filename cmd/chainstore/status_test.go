package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

const sampleText = `leader   http://127.0.0.1:8000  term 7
height   12 blocks  head 0000abcdef000000
records  34567 (the tree has 34579 leaves)
stored   11 blocks on 2 storage nodes or more
signed   31744 leaves, a checkpoint of 32001 waits for witnesses
buffer   1 record, 300 B
pending  1 block, 5.0 MiB with the buffer
retries  1200 keys remembered, the oldest for 9m58s

MASTER            URL                    RAFT            STATE
aaaabbbbccccdddd  http://127.0.0.1:8000  127.0.0.1:8010  leader
eeeeffffgggghhhh  http://127.0.0.1:8001  127.0.0.1:8011  follower
iiiijjjjkkkkllll  -                      127.0.0.1:8012  unreachable

STORAGE         URL                    STATE    HEIGHT  LAG  LIVE
s-aaaabbbbcccc  http://127.0.0.1:8082  valid    12      0    yes
s-ddddeeeeffff  http://127.0.0.1:8083  invalid  3       9    no

MINER           URL                    LIVE
m-aaaabbbbcccc  http://127.0.0.1:8079  yes

! storage node s-ddddeeeeffff is invalid: behind what the masters hold, it is
  repaired from another node
`

func TestStatus(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	out, _, err := run(t, nil, "status")
	if err != nil || out != sampleText {
		t.Errorf("got\n%s\n%v; want\n%s", out, err, sampleText)
	}
	out, _, err = run(t, nil, "status", "--json")
	var c wire.Cluster
	if err != nil || json.Unmarshal([]byte(out), &c) != nil || c.Head.Size != 34579 || strings.Count(out, "\n") != 1 {
		t.Errorf("--json: %q, %v", out, err)
	}
}

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

// No line is wider than 80 columns, however long the names are.
func TestStatusFits(t *testing.T) {
	long := strings.Repeat("very-long-host-name.", 8) + "example:8000"
	c := sampleStatus()
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

// watchAll runs a watcher over answers, one a tick, until they are used up.
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

// A row that just fits is drawn as it is, whatever its letters take in bytes; a message that does not is broken.
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
			print: printStatus, out: failingWriter{full}, redraw: redraw, width: render.StandardWidth,
		}
		if err := w.run(t.Context()); !errors.Is(err, full) {
			t.Errorf("redraw %v: %v", redraw, err)
		}
	}
}
