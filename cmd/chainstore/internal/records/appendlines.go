package records

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// linesAhead limits the lines that are read and not acknowledged, to about three full batches.
const linesAhead = 1 << 15

// sentLine is a line that has been sent.
type sentLine struct {
	future client.Future
	number int64
	size   int64 // in the input
	record uint64
	past   bool // not sent: the stream has passed it
}

// progress counts the lines that are acknowledged or failed.
type progress struct {
	stream string // its name, "" for none
	known  uint64 // records that it had before

	acked       int
	there       int           // acknowledged, and appended before
	first, last wire.Position // of those that were appended now, and of all
	lastLine    int64         // number of the last acknowledged line

	failedLine  int64 // number of the first line that failed, 0 for none
	failedErr   error
	ackedBefore int // lines acknowledged before failedLine
	failed      int
	sentTo      int64 // number of the last line that was sent

	unanswered atomic.Int64 // lines that were sent and have no answer

	outErr error // error of the standard output
}

// lineSender appends lines. The client's Batcher is one, and its AppendStream.
type lineSender interface {
	Add(ctx context.Context, e client.Entry) (client.Future, error)
	Close() error
}

// appendLines appends the input line by line.
func (a *appending) appendLines(ctx context.Context) error {
	begin := time.Now()
	if a.typ == "" {
		a.typ = textType
	}
	// Reading stops at once on an interrupt or a failure. Lines that were sent get their answers, until another
	// interrupt.
	feeding, stop := context.WithCancel(ctx)
	defer stop()
	sending, release := cli.UntilSecondInterrupt(ctx)
	defer release()
	t := progress{stream: a.stream}
	defer context.AfterFunc(ctx, func() {
		if n := t.unanswered.Load(); n > 0 {
			fmt.Fprintf(a.Cmd.ErrOrStderr(), "stopping: no more lines are read; waiting for the answers to %s; "+
				"interrupt again to end at once\n", render.Count(int(n), "line"))
		}
	})()
	sender, first, err := a.sender(sending, &t)
	if err != nil {
		return err
	}
	queue := make(chan sentLine, linesAhead)
	var collecting sync.WaitGroup
	collecting.Go(func() { a.collect(queue, &t, stop) })

	lines := newLineReader(a.reader(feeding), wire.MaxBatchBytes-wire.FrameOverhead-len(a.key)-len(a.typ),
		a.keepNewlines)
	records, feedErr := a.feed(feeding, lines, sender, first, &t, queue)
	close(queue)
	_ = sender.Close() // a line has the same error
	collecting.Wait()

	if feedErr == nil && records < t.known {
		feedErr = fmt.Errorf("the input has %s, and the stream %q has %d: it was not made of this input, or the input "+
			"was cut", render.Count(int(records), "record"), a.stream, t.known)
	}
	if err := t.err(ctx, feedErr); err != nil {
		return err
	}
	var waitErr error
	if a.wait && t.acked > 0 {
		waitErr = a.waitStored(ctx, t.last.Block, a.timeout)
	}
	return errors.Join(a.summary(&t, lines.skipped, time.Since(begin)), waitErr)
}

// sender returns what appends the lines, and the number of the first record to send: the stream has those before it,
// and no longer knows where they are.
func (a *appending) sender(ctx context.Context, t *progress) (s lineSender, first uint64, err error) {
	if a.stream == "" {
		return a.NewBatcher(ctx, client.BatcherConfig{MaxBuffered: 2 * wire.MaxBatchBytes}), 1, nil
	}
	first = 1
	switch state, err := a.AppendStreamState(ctx, a.stream); {
	case errors.Is(err, wire.ErrUnknownStream):
	case errors.Is(err, wire.ErrNoSuchRoute) || errors.Is(err, wire.ErrMethod):
		return nil, 0, fmt.Errorf("--stream %s: the masters are of a version without append streams: %w", a.stream, err)
	case err != nil:
		return nil, 0, fmt.Errorf("--stream %s: %w", a.stream, err)
	default:
		// Those that the stream knows are sent again. They get their positions, and are compared.
		first, t.known = state.Oldest, state.Next-1
	}
	s, err = a.NewAppendStream(ctx, client.AppendStreamConfig{
		ID: a.stream, First: first, MaxBuffered: 2 * wire.MaxBatchBytes,
	})
	return s, first, err
}

// feed passes lines to the sender until the input or the context ends. It returns the number of records in the input.
func (a *appending) feed(
	ctx context.Context, lines *lineReader, sender lineSender, first uint64, t *progress, queue chan<- sentLine,
) (records uint64, err error) {
	for {
		payload, err := lines.next()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records++
		line := sentLine{number: lines.number, size: lines.size, record: records, past: records < first}
		if !line.past {
			line.future, err = sender.Add(ctx, client.Entry{Payload: payload, Key: a.key, Type: a.typ})
		} else {
			err = ctx.Err()
		}
		if err == nil && !line.past {
			t.unanswered.Add(1)
		}
		if err != nil {
			return records, fmt.Errorf("line %d: %w", lines.number, err)
		}
		queue <- line
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
		if s.past {
			t.pass(s.number)
			bar.Add(s.size)
			continue
		}
		at, err := s.future.Wait(context.Background()) // ends at the latest with the sender's context
		t.unanswered.Add(-1)
		t.add(&s, at, err)
		if err != nil {
			stop()
			continue
		}
		bar.Add(s.size)
		if !a.JSON || t.outErr != nil {
			continue
		}
		line = append(a.positionJSON(line[:0], s.record, &at), '\n')
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

// positionJSON appends a position to dst. That of a record of a named stream has its number in the stream.
func (a *appending) positionJSON(dst []byte, record uint64, at *wire.Position) []byte {
	if a.stream == "" {
		return at.AppendJSON(dst)
	}
	dst = strconv.AppendUint(append(dst, `{"number":`...), record, 10)
	brace := len(dst)
	dst = at.AppendJSON(dst)
	dst[brace] = ','
	return dst
}

// pass counts a line that the stream has, and whose position is not known.
func (t *progress) pass(number int64) {
	t.acked++
	t.there++
	t.lastLine = number
}

// add counts a line that was sent.
func (t *progress) add(s *sentLine, at wire.Position, err error) {
	t.sentTo = s.number
	if err != nil {
		if t.failed++; t.failedErr == nil {
			t.failedLine, t.failedErr, t.ackedBefore = s.number, err, t.acked
		}
		return
	}
	t.acked++
	if s.record <= t.known {
		t.there++
	} else if t.acked-t.there == 1 {
		t.first = at
	}
	t.last, t.lastLine = at, s.number
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
		return fmt.Errorf("%w; %s; lines %d to %d may or may not have been appended%s", why, t.acknowledged(),
			t.failedLine, t.sentTo, t.again())
	case t.failedErr != nil && interrupted:
		return fmt.Errorf("stopped; %s%s", t.acknowledged(), t.again())
	case errors.Is(t.failedErr, wire.ErrStreamContent):
		return fmt.Errorf("line %d is not what the stream %q has: continue it with the same input, --key and --type, "+
			"or use another name: %w; %s", t.failedLine, t.stream, t.failedErr, t.acknowledged())
	case t.failedErr != nil:
		return fmt.Errorf("line %d was not appended: %w; %s", t.failedLine, t.failedErr, t.acknowledged())
	case t.outErr != nil:
		return fmt.Errorf("write the positions: %w; %s%s", t.outErr, t.acknowledged(), t.again())
	case feedErr != nil && interrupted:
		return fmt.Errorf("stopped; %s%s", t.acknowledged(), t.again())
	case feedErr != nil:
		return fmt.Errorf("%w; %s", feedErr, t.acknowledged())
	}
	return nil
}

// again says how to continue a named stream.
func (t *progress) again() string {
	if t.stream == "" {
		return ""
	}
	return "; the same command continues"
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

// summary prints what was done. With --json it prints only what was not, on the standard error.
func (a *appending) summary(t *progress, skipped int64, took time.Duration) error {
	var others []string
	if t.there > 0 {
		others = append(others, render.Count(t.there, "record")+" already there")
	}
	if skipped > 0 {
		others = append(others, render.Count(skipped, "empty line")+" skipped")
	}
	if a.JSON {
		if len(others) == 0 {
			return nil
		}
		_, err := fmt.Fprintln(a.Cmd.ErrOrStderr(), strings.Join(others, "; "))
		return err
	}
	appended := t.acked - t.there
	done := render.Count(appended, "record") + " appended"
	switch {
	case appended == 1:
		done += " at " + place(t.first)
	case appended > 1:
		done += fmt.Sprintf(", from %s to %s", place(t.first), place(t.last))
	}
	done += fmt.Sprintf(", in %v (%s)", took.Round(time.Millisecond), render.Rate(appended, took))
	_, err := fmt.Fprintln(a.Out, strings.Join(append([]string{done}, others...), "; "))
	return err
}
