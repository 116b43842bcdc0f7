package main

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
	// linesAhead bounds the lines that are read and not acknowledged; three batches of the most records, about.
	linesAhead = 1 << 15
	// linesGrace is how long an interrupted append waits for the answer to what it has sent.
	linesGrace = 3 * time.Second
)

// sentLine is a line on its way.
type sentLine struct {
	future client.Future
	number int64
	size   int64 // in the input
}

// tally is what became of the lines.
type tally struct {
	acked       int
	first, last wire.Position
	lastLine    int64 // of the last that is acknowledged

	failedLine  int64 // the first that failed, 0 for none
	failedErr   error
	ackedBefore int // acknowledged before it
	failed      int
	sentTo      int64 // the last line that was handed over

	outErr error // of the standard output
}

// appendLines appends the input line by line.
func (a *appending) appendLines(ctx context.Context) error {
	begin := time.Now()
	if a.typ == "" {
		a.typ = textType
	}
	// Two contexts: feeding stops at once at an interrupt or a failure, what has been sent gets time for its answer.
	feeding, stop := context.WithCancel(ctx)
	defer stop()
	sending, cancel := withGrace(ctx, linesGrace)
	defer cancel()
	batcher := a.client.NewBatcher(sending, client.BatcherConfig{MaxBuffered: 2 * wire.MaxBatchBytes})
	queue := make(chan sentLine, linesAhead)
	var t tally
	var collecting sync.WaitGroup
	collecting.Go(func() { a.collect(queue, &t, stop) })

	lines := newLineReader(a.reader(feeding), wire.MaxBatchBytes-wire.FrameOverhead-len(a.key)-len(a.typ),
		a.keepNewlines)
	feedErr := a.feed(feeding, lines, batcher, queue)
	close(queue)
	_ = batcher.Close() // its error is one that a line has too
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

// feed hands lines to the batcher until the input or the context ends.
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

// collect takes the answers in the order of the lines and prints them. It stops the feeding at the first that is bad,
// and goes on to the last.
func (a *appending) collect(queue <-chan sentLine, t *tally, stop context.CancelFunc) {
	bar := render.NewRecordBar(a.errs, a.size)
	defer bar.Done()
	out := bufio.NewWriterSize(a.out, 64<<10)
	var line []byte
	for s := range queue {
		at, err := s.future.Wait(context.Background()) // the batcher answers all, at the latest when its context ends
		t.add(s.number, at, err)
		if err != nil {
			stop()
			continue
		}
		bar.Add(s.size)
		if !a.asJSON || t.outErr != nil {
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

func (t *tally) add(number int64, at wire.Position, err error) {
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

// err says what went wrong and what is acknowledged all the same; nil where all is.
func (t *tally) err(ctx context.Context, feedErr error) error {
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

// acknowledged tells which records are.
func (t *tally) acknowledged() string {
	if t.acked == 0 {
		return "no record is acknowledged"
	}
	is := "are"
	if t.acked == 1 {
		is = "is"
	}
	text := fmt.Sprintf("%s %s acknowledged, up to line %d", render.Count(t.acked, "record"), is, t.lastLine)
	if behind := t.acked - t.ackedBefore; t.failedErr != nil && behind > 0 {
		text += fmt.Sprintf(", %d of them behind line %d", behind, t.failedLine)
		if t.failed > 1 {
			text += fmt.Sprintf(", and %d are not", t.failed)
		}
	}
	return text
}

// summary tells people what was done; with --json only what the lines do not tell.
func (a *appending) summary(t *tally, skipped int64, took time.Duration) error {
	skip := ""
	if skipped > 0 {
		skip = render.Count(skipped, "empty line") + " skipped"
	}
	if a.asJSON {
		if skip == "" {
			return nil
		}
		_, err := fmt.Fprintln(a.errs, skip)
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
	_, err := fmt.Fprintln(a.out, strings.Join(parts, "; "))
	return err
}

// withGrace is a context that ends some time after ctx does.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-late.Done():
		}
	})
	return late, func() { unhook(); cancel() }
}
