package records

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

const (
	// linesAhead limits the lines that are read and not acknowledged, to about three full batches.
	linesAhead = 1 << 15
	// linesGrace is the time that an interrupted append waits for answers to what it has sent.
	linesGrace = 3 * time.Second
)

// sentLine is a line that has been sent.
type sentLine struct {
	future client.Future
	number int64
	size   int64 // in the input
}

// progress counts the lines that are acknowledged or failed.
type progress struct {
	acked       int
	first, last wire.Position
	lastLine    int64 // number of the last acknowledged line

	failedLine  int64 // number of the first line that failed, 0 for none
	failedErr   error
	ackedBefore int // lines acknowledged before failedLine
	failed      int
	sentTo      int64 // number of the last line that was sent

	outErr error // error of the standard output
}

// appendLines appends the input line by line.
func (a *appending) appendLines(ctx context.Context) error {
	begin := time.Now()
	if a.typ == "" {
		a.typ = textType
	}
	// Reading stops at once on an interrupt or a failure. Lines that were sent get more time for their answers.
	feeding, stop := context.WithCancel(ctx)
	defer stop()
	sending, cancel := withGrace(ctx, linesGrace)
	defer cancel()
	batcher := a.NewBatcher(sending, client.BatcherConfig{MaxBuffered: 2 * wire.MaxBatchBytes})
	queue := make(chan sentLine, linesAhead)
	var t progress
	var collecting sync.WaitGroup
	collecting.Go(func() { a.collect(queue, &t, stop) })

	lines := newLineReader(a.reader(feeding), wire.MaxBatchBytes-wire.FrameOverhead-len(a.key)-len(a.typ),
		a.keepNewlines)
	feedErr := a.feed(feeding, lines, batcher, queue)
	close(queue)
	_ = batcher.Close() // a line has the same error
	collecting.Wait()

	if err := t.err(ctx, feedErr); err != nil {
		return err
	}
	var waitErr error
	if a.wait && t.acked > 0 {
		waitErr = a.waitStored(ctx, t.last.Block, a.timeout)
	}
	return errors.Join(a.summary(&t, lines.skipped, time.Since(begin)), waitErr)
}

// feed passes lines to the batcher until the input or the context ends.
func (a *appending) feed(ctx context.Context, lines *lineReader, batcher *client.Batcher, queue chan<- sentLine) error {
	for {
		payload, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		future, err := batcher.Add(ctx, client.Entry{Payload: payload, Key: a.key, Type: a.typ})
		if err != nil {
			return fmt.Errorf("line %d: %w", lines.number, err)
		}
		queue <- sentLine{future: future, number: lines.number, size: lines.size}
	}
}

// collect waits for the answers in the order of the lines and prints them. On the first error it stops feed, and
// continues with the lines that were already sent.
func (a *appending) collect(queue <-chan sentLine, t *progress, stop context.CancelFunc) {
	bar := render.NewRecordBar(a.Cmd.ErrOrStderr(), a.size)
	defer bar.Done()
	out := bufio.NewWriterSize(a.Out, 64<<10)
	var line []byte
	for s := range queue {
		at, err := s.future.Wait(context.Background()) // ends at the latest with the batcher's context
		t.add(s.number, at, err)
		if err != nil {
			stop()
			continue
		}
		bar.Add(s.size)
		if !a.JSON || t.outErr != nil {
			continue
		}
		line = append(at.AppendJSON(line[:0]), '\n')
		_, t.outErr = out.Write(line)
		if len(queue) == 0 && t.outErr == nil {
			t.outErr = out.Flush()
		}
		if t.outErr != nil {
			stop()
		}
	}
	if t.outErr == nil {
		t.outErr = out.Flush()
	}
}

func (t *progress) add(number int64, at wire.Position, err error) {
	t.sentTo = number
	if err != nil {
		if t.failed++; t.failedErr == nil {
			t.failedLine, t.failedErr, t.ackedBefore = number, err, t.acked
		}
		return
	}
	if t.acked++; t.acked == 1 {
		t.first = at
	}
	t.last, t.lastLine = at, number
}

// err returns what went wrong and how much is acknowledged, or nil if every line is.
func (t *progress) err(ctx context.Context, feedErr error) error {
	interrupted := ctx.Err() != nil
	var unknown *client.UnknownOutcomeError
	switch {
	case errors.As(t.failedErr, &unknown):
		why := unknown.Err
		if interrupted {
			why = errors.New("stopped")
		}
		return fmt.Errorf("%w; %s; lines %d to %d may or may not have been appended", why, t.acknowledged(),
			t.failedLine, t.sentTo)
	case t.failedErr != nil && interrupted:
		return fmt.Errorf("stopped; %s", t.acknowledged())
	case t.failedErr != nil:
		return fmt.Errorf("line %d was not appended: %w; %s", t.failedLine, t.failedErr, t.acknowledged())
	case t.outErr != nil:
		return fmt.Errorf("write the positions: %w; %s", t.outErr, t.acknowledged())
	case feedErr != nil && interrupted:
		return fmt.Errorf("stopped; %s", t.acknowledged())
	case feedErr != nil:
		return fmt.Errorf("%w; %s", feedErr, t.acknowledged())
	}
	return nil
}

// acknowledged describes which records are acknowledged.
func (t *progress) acknowledged() string {
	if t.acked == 0 {
		return "no record is acknowledged"
	}
	is := "are"
	if t.acked == 1 {
		is = "is"
	}
	text := fmt.Sprintf("%s %s acknowledged, up to line %d", render.Count(t.acked, "record"), is, t.lastLine)
	if behind := t.acked - t.ackedBefore; t.failedErr != nil && behind > 0 {
		text += fmt.Sprintf(", %d of them after line %d", behind, t.failedLine)
		if t.failed > 1 {
			text += fmt.Sprintf(", and %d are not", t.failed)
		}
	}
	return text
}

// summary prints what was done. With --json it prints only the skipped lines, on the standard error.
func (a *appending) summary(t *progress, skipped int64, took time.Duration) error {
	skip := ""
	if skipped > 0 {
		skip = render.Count(skipped, "empty line") + " skipped"
	}
	if a.JSON {
		if skip == "" {
			return nil
		}
		_, err := fmt.Fprintln(a.Cmd.ErrOrStderr(), skip)
		return err
	}
	parts := []string{render.Count(t.acked, "record") + " appended"}
	switch {
	case t.acked == 1:
		parts[0] += " at " + place(t.first)
	case t.acked > 1:
		parts[0] += fmt.Sprintf(", from %s to %s", place(t.first), place(t.last))
	}
	parts[0] += fmt.Sprintf(", in %v (%s)", took.Round(time.Millisecond), render.Rate(t.acked, took))
	if skip != "" {
		parts = append(parts, skip)
	}
	_, err := fmt.Fprintln(a.Out, strings.Join(parts, "; "))
	return err
}

// withGrace returns a context that ends some time after ctx.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return late, func() { unhook(); cancel() }
}
