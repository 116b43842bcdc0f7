package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

const (
	// streamIdle is how long a request stays open when all its records are answered: masters end it after 30 s.
	streamIdle = 10 * time.Second
	// halfDuplexAfter is how long a request with unanswered records goes on without an answer. Then its body is ended,
	// as a proxy may send nothing on before. The records that were sent fit into one request.
	halfDuplexAfter = 5 * time.Second
	// batcherDuplexAfter is halfDuplexAfter for a Batcher that has not had an answer before the end of a body: the
	// first entry through a proxy waits so long.
	batcherDuplexAfter = 250 * time.Millisecond
	// maxAnswerLine bounds a line of the answer to an append stream.
	maxAnswerLine = 64 << 10
)

// appendBody is the body of one request of an append stream. A transport reads it in a goroutine of its own, perhaps
// after the request has ended. The queue's lock guards its fields.
type appendBody struct {
	*appender
	first uint64 // number of the request's first record
	next  uint64 // number of the next record to be read
	last  uint64 // number of the last record that may be read
	half  bool   // it ends after what is there
	rest  []byte // frames of records before next

	moved time.Time // when the last answer came, or the first record without an answer was read
	begun bool      // an answer has come
	late  bool      // the first answer came after the body was ended for it
	quiet bool      // the body was ended because no answer came
	ended bool      // nothing more is read
	over  bool      // the request has ended, so reads fail
	waits bool      // a read waits
}

// newBody returns the body of a request that begins with the first record without an answer.
func (a *appender) newBody() *appendBody {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := &appendBody{appender: a, first: a.answered + 1, next: a.answered + 1, last: a.answered + 1<<62}
	if a.most > 0 {
		b.last = a.answered + a.most
	}
	b.moved = time.Now()
	b.half = b.moved.Before(a.half)
	return b
}

// patience is how long the request goes on without an answer.
func (b *appendBody) patience() time.Duration {
	if b.reopen != nil && !b.reopen.duplex {
		return batcherDuplexAfter
	}
	return halfDuplexAfter
}

// errRequestOver: a transport reads the body of a request that has ended.
var errRequestOver = errors.New("the request has ended")

// Read implements [io.Reader]. It waits for records.
func (b *appendBody) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) {
		if len(b.rest) == 0 {
			if b.rest, err = b.frames(n == 0); err != nil || len(b.rest) == 0 {
				break
			}
		}
		c := copy(p[n:], b.rest)
		b.rest = b.rest[c:]
		n += c
	}
	return n, err
}

// frames returns the frames of the next records, none if there are none now and it must not wait. The lock is held.
func (b *appendBody) frames(wait bool) ([]byte, error) {
	for {
		if b.over {
			return nil, errRequestOver
		}
		if b.ended || b.next > b.last {
			return nil, io.EOF
		}
		if b.next > b.taken {
			b.takeGroup()
		}
		if b.next <= b.taken {
			g := b.find(b.next)
			i, j := int(b.next-g.number), len(g.ends)
			if most := b.last - b.next + 1; uint64(j-i) > most {
				j = i + int(most)
			}
			if b.next == b.answered+1 { // until now it was idle
				b.moved = time.Now()
			}
			b.next += uint64(j - i)
			return g.frame(i, j), nil
		}
		if b.half && b.next > b.first || b.closed && len(b.waiting) == 0 {
			b.ended = true
			continue
		}
		if !wait {
			return nil, nil
		}
		b.waits = true
		b.wake.Wait()
		b.waits = false
	}
}

// takeGroup takes a group from the queue, if there is one and its records are in the window. The lock is held.
func (b *appendBody) takeGroup() {
	if len(b.waiting) == 0 || b.taken-b.answered+uint64(len(b.waiting[0].ends)) > b.window {
		return
	}
	g := b.pop()
	g.number = b.taken + 1
	g.positions = make([]wire.Position, len(g.ends))
	b.taken += uint64(len(g.ends))
	b.sent = append(b.sent, g)
}

// Close implements [io.Closer].
func (b *appendBody) Close() error { return nil }

// watch ends the body of a request that is idle or has no answer, and ends the request when it has none for too long.
// It returns the time until it must be called again, 0 for never.
func (b *appendBody) watch(silent func()) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0
	}
	limit := streamIdle
	switch {
	case b.ended:
		limit = streamSilence
	case b.next-1 > b.answered:
		limit = b.patience()
	}
	if left := limit - time.Since(b.moved); left > 0 {
		return left
	}
	if b.ended {
		silent()
		return 0
	}
	b.ended, b.quiet = true, b.next-1 > b.answered && !b.begun
	b.wake.Broadcast()
	return streamSilence - limit
}

// exchange sends a body to a master and takes the answers.
func (a *appender) exchange(base string, b *appendBody) error {
	ctx, cancel := context.WithCancelCause(a.ctx)
	defer cancel(nil)
	var watching *time.Timer
	armed := make(chan struct{}) // closed when the timer is set
	watching = time.AfterFunc(b.patience(), func() {
		<-armed
		if again := b.watch(func() { cancel(fmt.Errorf("no answer came for %v", streamSilence)) }); again > 0 {
			watching.Reset(again)
		}
	})
	close(armed)
	defer watching.Stop()
	path := "/v1/records:stream?" + url.Values{
		"stream": {a.id}, "first": {strconv.FormatUint(b.first, 10)},
	}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, b)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, base, err)
	}
	r.ContentLength = -1
	r.Header["Content-Type"] = typeFrames
	// What is refused before the first record is read was not appended. Without this it is not known.
	r.Header["Expect"] = []string{"100-continue"}
	if a.client.auth != nil {
		r.Header["Authorization"] = a.client.auth
	}
	response, err := a.client.send(r)
	if err != nil {
		return exchange.NoAnswer(base, errors.Join(err, context.Cause(ctx)))
	}
	defer response.Body.Close()
	answer := &exchange.Answer{Base: base, Status: response.StatusCode, Header: response.Header}
	if response.StatusCode != http.StatusOK {
		whole, err := exchange.Read(base, response, exchange.MaxSmall)
		if err != nil {
			return err
		}
		return cmp.Or(whole.Problem(), fmt.Errorf("%s: %w: its status is %d", base, ErrAnswer, whole.Status))
	}
	if err := answer.Expect(wire.TypeNDJSON); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(response.Body, maxAnswerLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%s: %w: a line of more than %d bytes", base, ErrAnswer, maxAnswerLine)
		case err != nil:
			return exchange.NoAnswer(base, fmt.Errorf("%w: %w", exchange.ErrBrokenOff,
				errors.Join(err, context.Cause(ctx))))
		}
		var l wire.StreamAnswer
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("%s: %w: %w", base, ErrAnswer, err)
		}
		if l.End {
			return b.end(base, &l)
		}
		if err := b.take(&l); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
}

// take takes the position of a record.
func (b *appendBody) take(l *wire.StreamAnswer) error {
	b.mu.Lock()
	switch {
	case l.Number != b.answered+1 || l.Number >= b.next:
		b.mu.Unlock()
		return fmt.Errorf("%w: the position of number %d, where that of number %d is expected", ErrAnswer, l.Number,
			b.answered+1)
	case l.Position == nil || l.Index < b.index:
		b.mu.Unlock()
		return fmt.Errorf("%w: number %d has no position behind that of the number before it", ErrAnswer, l.Number)
	}
	if err := checkPosition(l.Position); err != nil {
		b.mu.Unlock()
		return err
	}
	if !b.begun {
		b.begun, b.late = true, b.quiet
	}
	if b.reopen != nil && !b.ended {
		b.reopen.duplex = true
	}
	b.answered++
	b.index = l.Index + 1
	b.moved = time.Now()
	g := b.sent[0]
	g.positions[g.done] = *l.Position
	g.done++
	complete := g.done == len(g.ends)
	if complete {
		b.sent = b.sent[1:]
	}
	if b.waits {
		b.wake.Broadcast()
	}
	b.mu.Unlock()
	if complete {
		b.answer(g)
	}
	return nil
}

// end takes the last line of an answer.
func (b *appendBody) end(base string, l *wire.StreamAnswer) error {
	b.mu.Lock()
	answered, sent := b.answered, b.next-1
	b.mu.Unlock()
	switch {
	case l.Number != answered:
		return fmt.Errorf("%s: %w: it ends with number %d, after the position of number %d", base, ErrAnswer, l.Number,
			answered)
	case l.Problem != nil:
		return &wire.Error{URL: base, Problem: *l.Problem}
	case sent > answered:
		return fmt.Errorf("%s: %w: it ends with number %d, and %d were sent", base, ErrAnswer, answered, sent)
	}
	return nil
}
