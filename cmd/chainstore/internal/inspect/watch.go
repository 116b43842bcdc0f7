package inspect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// watcher shows the status repeatedly.
type watcher struct {
	fetch func(context.Context) (wire.Cluster, error)
	print func(io.Writer, *wire.Cluster) error
	ticks <-chan time.Time
	out   io.Writer
	errs  io.Writer // used if redraw is false
	// redraw makes each status replace the last one. It needs a terminal.
	redraw bool
	width  int
	// between is printed after each status if redraw is false.
	between string

	last string
}

// ANSI sequences: cursor to the top left corner, clear the screen, clear right of the cursor, clear below the
// cursor.
const (
	ansiHome       = "\x1b[H"
	ansiClear      = "\x1b[2J"
	ansiClearRight = "\x1b[K"
	ansiClearBelow = "\x1b[J"
)

// run shows the status at once and at each tick until the context ends, which is not an error. A failed request is
// reported and repeated at the next tick.
func (w *watcher) run(ctx context.Context) error {
	if w.redraw {
		if _, err := io.WriteString(w.out, ansiClear); err != nil {
			return err
		}
	}
	for {
		if err := w.once(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.ticks:
		}
	}
}

func (w *watcher) once(ctx context.Context) error {
	status, err := w.fetch(ctx)
	if ctx.Err() != nil {
		return nil
	}
	var text bytes.Buffer
	to := w.out
	if err != nil {
		fmt.Fprintf(&text, "no status: %v\ntrying again every second; Ctrl-C ends\n", err)
		if !w.redraw {
			to = w.errs
		}
	} else if err := w.print(&text, &status); err != nil {
		return err
	}
	if w.redraw {
		return w.draw(text.String())
	}
	if text.String() == w.last {
		return nil
	}
	w.last = text.String()
	_, err = fmt.Fprint(to, w.last, w.between)
	return err
}

// draw overwrites the screen line by line, which flickers less than clearing it.
func (w *watcher) draw(text string) error {
	var b strings.Builder
	b.WriteString(ansiHome)
	for line := range strings.Lines(text) {
		parts := []string{strings.TrimSuffix(line, "\n")}
		if utf8.RuneCountInString(parts[0]) > w.width {
			parts = render.Wrap(parts[0], w.width)
		}
		for _, part := range parts {
			b.WriteString(part + ansiClearRight + "\n")
		}
	}
	b.WriteString(ansiClearBelow)
	_, err := io.WriteString(w.out, b.String())
	return err
}
