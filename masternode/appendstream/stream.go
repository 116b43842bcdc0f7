package appendstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// The limits of a request.
const (
	// partRecords and partBytes bound a part, unless one record alone is larger. partsUnderWay is how many parts are
	// under way at a time.
	partRecords, partBytes = 512, 256 << 10
	partsUnderWay          = 2
	// pause is the time before a part is sent again, and patience how long that is repeated.
	pause    = 50 * time.Millisecond
	patience = 15 * time.Second
	// unreadTime is how long the client may leave an answer unread while there is no room for another record.
	unreadTime = 5 * time.Second
)

// Config describes one request of a stream with records of type E.
type Config[E any] struct {
	First  uint64 // the number of its first record
	Window int    // records that were read and have no answer yet
	Bytes  int    // their bytes, at which no more are read

	// Next reads records of the body: at least one and at most so many. It blocks only for the first. [io.EOF] is the
	// end. It is called by one goroutine. After [wire.ErrBacklog] it is called again if room was freed.
	Next func(most int) ([]E, error)
	// Drain reads and drops the rest of the body, so that a client that sends everything before it reads comes to read.
	Drain func()
	// Stop makes Next and Drain return, now and in the future. Another goroutine calls it, unless the reader has ended.
	Stop func()
	// Size is the number of bytes that a record takes.
	Size func(E) int

	// Limit returns how many records and bytes a part may have, 0 for no limit. It is called each time before a part
	// is sent. See [Run] for its errors.
	Limit func() (records, bytes int, err error)
	// Submit begins to append a part, all or none, and returns a function that waits for the positions. Parts that are
	// begun later should be appended later; one that overtakes another is refused as a [Gap]. A part may be submitted
	// again. See [Run] for the errors. wait is called by a goroutine of its own.
	Submit func(first uint64, records []E) (wait func() ([]wire.Position, error))

	// Answer writes the positions of records, and Flush sends what was written. One goroutine calls them. Their error
	// ends the request.
	Answer func(first uint64, positions []wire.Position) error
	Flush  func() error
	// Answered says that the answers of records were written; nil for no call.
	Answered func(records []E)
}

// Gap is a refusal of a part that does not continue its stream. It wraps [wire.ErrStreamGap].
type Gap struct {
	Next uint64 // the number of the stream's next record
}

// Error says where the stream continues.
func (g *Gap) Error() string {
	return fmt.Sprintf("%v: its next number is %d", wire.ErrStreamGap, g.Next)
}

// Unwrap is [wire.ErrStreamGap].
func (g *Gap) Unwrap() error { return wire.ErrStreamGap }

// part is a part on its way.
type part[E any] struct {
	first   uint64
	records []E
	asHead  bool          // all parts before it were appended when it was sent
	waits   bool          // it is to be sent when it is the first, maybe again; it is not on its way
	done    chan struct{} // nil before it is started
	// set when done is closed
	positions []wire.Position
	err       error
}

// answers are positions to be written.
type answers[E any] struct {
	first     uint64
	positions []wire.Position
	records   []E
	bytes     int
}

// request is a request that runs.
type request[E any] struct {
	cfg     Config[E]
	started sync.WaitGroup // waits for parts

	writeErr error // of the writer, when it has ended

	wake chan struct{} // holds a token when the queue or readErr has changed

	most int // records of a part, because of the quota; 0 for no bound

	mu      sync.Mutex // guards all below
	freed   *sync.Cond // room was freed, or the reader must end
	given   *sync.Cond // answers or sent has changed
	answers []answers[E]
	sent    bool // there will be no more answers
	queue   []E
	readErr error // why the reader has ended
	held    int   // records that were read and have no answer
	bytes   int   // of them
	writes  int   // beginnings and ends of writes
	unread  bool  // the write that runs was not taken for unreadTime
	ended   bool  // the reader must end
	reading bool  // it has not ended
}

// Run appends the records of a request until their end, until ctx ends, or until one cannot be appended. It returns the
// number of the last record whose position is known; all records up to it were appended. It waits for everything that
// it has started.
//
// A part is sent again, for some time, if its outcome is not known, there is no leader, or the masters have no room.
// The stream waits for a quota, and divides a part that needs more than is left of it, so that others who spend the
// same quota cannot keep it from ever passing. A part of which the stream has the first records already, as [Gap] says,
// is divided too. Every other error of a part ends the request. The same holds for the errors of Limit. Errors: those
// of Config's functions, [wire.ErrUnreadAnswers], and the cause of the end of ctx.
func Run[E any](ctx context.Context, cfg Config[E]) (last uint64, err error) {
	r := &request[E]{cfg: cfg, wake: make(chan struct{}, 1)}
	r.freed, r.given = sync.NewCond(&r.mu), sync.NewCond(&r.mu)
	var reader, writer sync.WaitGroup
	writing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.reading = true
	reader.Go(r.read)
	writer.Go(func() {
		if r.writeErr = r.write(); r.writeErr != nil {
			cancel(r.writeErr)
		}
	})
	last, err = r.send(writing)
	if cause := context.Cause(writing); err == nil && cause != nil {
		err = cause
	}
	r.mu.Lock()
	r.sent = true
	r.mu.Unlock()
	r.given.Broadcast()
	if !errors.Is(err, wire.ErrUnreadAnswers) {
		r.end()
	}
	writer.Wait() // a client that does not read is cut off by its connection
	r.end()
	reader.Wait()
	r.started.Wait()
	if err == nil {
		err = r.writeErr
	}
	return last, err
}

// end makes the reader end.
func (r *request[E]) end() {
	r.mu.Lock()
	r.ended = true
	reading := r.reading
	r.mu.Unlock()
	r.freed.Broadcast()
	if reading {
		r.cfg.Stop()
	}
}

// read reads records into the queue as long as there is room.
func (r *request[E]) read() {
	defer func() {
		r.mu.Lock()
		r.reading = false
		r.mu.Unlock()
	}()
	for {
		room, err := r.room()
		var records []E
		if err == nil {
			records, err = r.cfg.Next(room)
		}
		if errors.Is(err, wire.ErrBacklog) && r.freedRoom(r.cfg.Window-room) {
			continue
		}
		r.mu.Lock()
		r.queue = append(r.queue, records...)
		r.held += len(records)
		for i := range records {
			r.bytes += r.cfg.Size(records[i])
		}
		r.readErr = err
		r.mu.Unlock()
		r.notify()
		switch {
		case errors.Is(err, wire.ErrUnreadAnswers):
			r.cfg.Drain()
			return
		case err != nil:
			return
		}
	}
}

// freedRoom waits until fewer records have no answer than did. It returns false if there is nothing to wait for.
func (r *request[E]) freedRoom(did int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.held >= did {
		if did == 0 || r.ended || r.unread {
			return false
		}
		r.freed.Wait()
	}
	return true
}

// errEnded: the request has ended.
var errEnded = errors.New("the request has ended")

// room waits until at least one more record may be read, and returns how many.
func (r *request[E]) room() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.ended:
			return 0, errEnded
		case r.held < r.cfg.Window && r.bytes < r.cfg.Bytes:
			return r.cfg.Window - r.held, nil
		case r.unread:
			return 0, fmt.Errorf("%w: %d answers wait, the limit: read them while you send, or send fewer records in "+
				"one request", wire.ErrUnreadAnswers, r.held)
		}
		r.freed.Wait()
	}
}

func (r *request[E]) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// write writes answers until there will be no more.
func (r *request[E]) write() error {
	for list := r.nextAnswers(true); len(list) > 0; list = r.nextAnswers(true) {
		for ; len(list) > 0; list = r.nextAnswers(false) {
			for _, a := range list {
				if err := r.watched(func() error { return r.cfg.Answer(a.first, a.positions) }); err != nil {
					return err
				}
				r.free(a)
			}
		}
		if err := r.watched(r.cfg.Flush); err != nil {
			return err
		}
	}
	return nil
}

// nextAnswers takes the answers that are to be written, and waits for one if it is told to. It returns none if there
// will be no more.
func (r *request[E]) nextAnswers(wait bool) []answers[E] {
	r.mu.Lock()
	defer r.mu.Unlock()
	for wait && len(r.answers) == 0 && !r.sent {
		r.given.Wait()
	}
	list := r.answers
	r.answers = nil
	return list
}

// watched runs a write. While one takes too long, unread is set.
func (r *request[E]) watched(write func() error) error {
	number := r.nextWrite()
	t := time.AfterFunc(unreadTime, func() {
		r.mu.Lock()
		r.unread = r.writes == number // the write may have ended meanwhile
		r.mu.Unlock()
		r.freed.Broadcast()
	})
	err := write()
	t.Stop()
	r.nextWrite()
	return err
}

// nextWrite marks the beginning or the end of a write.
func (r *request[E]) nextWrite() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unread = false
	r.writes++
	return r.writes
}

// free frees the room of records that were answered.
func (r *request[E]) free(a answers[E]) {
	if r.cfg.Answered != nil {
		r.cfg.Answered(a.records)
	}
	r.mu.Lock()
	r.held -= len(a.positions)
	r.bytes -= a.bytes
	r.mu.Unlock()
	r.freed.Broadcast()
}

// send makes parts of the queue and sends them, until the end. When it returns, no part is under way.
func (r *request[E]) send(ctx context.Context) (last uint64, err error) {
	next := r.cfg.First // the number of the first record in the queue
	last = next - 1
	var underWay []*part[E]
	var failing time.Time // since when the first part, or Limit, has failed; zero if neither has
	var repeat <-chan time.Time
	// failed plans another try after an error, or makes the error that of the request.
	failed := func(cause error) {
		wait, again := retryAfter(cause)
		if now := time.Now(); failing.IsZero() || errors.Is(cause, wire.ErrQuota) {
			failing = now
		} else if now.Sub(failing) >= patience {
			again = false
		}
		if !again {
			err = cause
			return
		}
		repeat = time.After(wait)
	}
	ended := ctx.Done()
	for {
		if err == nil && repeat == nil && len(underWay) > 0 && underWay[0].waits {
			if _, _, limitErr := r.cfg.Limit(); limitErr != nil { // the sender may have lost its rights
				failed(limitErr)
			} else {
				underWay = r.divided(underWay)
				r.start(underWay[0], true)
			}
		}
		for err == nil && repeat == nil && len(underWay) < r.mostUnderWay(next) {
			p, limitErr := r.nextPart(next)
			if limitErr != nil {
				failed(limitErr)
			}
			if p == nil {
				break
			}
			next += uint64(len(p.records))
			underWay = append(underWay, p)
			r.start(p, len(underWay) == 1)
		}
		if err != nil && (len(underWay) == 0 || underWay[0].waits) {
			return last, r.abandon(underWay, err)
		}
		if len(underWay) == 0 && repeat == nil {
			if readErr, end := r.readEnd(); end {
				return last, readErr
			}
		}
		var done <-chan struct{}
		if len(underWay) > 0 && !underWay[0].waits {
			done = underWay[0].done
		}
		select {
		case <-r.wake:
			continue
		case <-ended: // parts that are under way come to their end
			err, ended, repeat = context.Cause(ctx), nil, nil
			continue
		case <-repeat:
			repeat = nil
			continue
		case <-done:
		}
		p := underWay[0]
		if p.err == nil {
			failing = time.Time{}
			underWay = underWay[1:]
			last = p.first + uint64(len(p.records)) - 1
			r.more()
			r.answer(p)
			continue
		}
		p.waits = true
		if err != nil { // it is not sent again
			continue
		}
		var gap *Gap
		switch {
		case errors.As(p.err, &gap) && gap.Next > p.first && gap.Next-p.first < uint64(len(p.records)):
			underWay = p.divide(int(gap.Next-p.first), underWay[1:])
		case !p.asHead && (gap != nil || errors.Is(p.err, wire.ErrUnknownStream)): // it overtook a part before it
		default:
			failed(r.less(p))
		}
	}
}

// less bounds parts by what is left of a quota that has refused one, and returns the error of that part. If something
// is left, there is nothing to wait for.
func (r *request[E]) less(p *part[E]) error {
	quota, ok := errors.AsType[*wire.QuotaError](p.err)
	if !ok || len(p.records) == 1 {
		return p.err
	}
	fits, size := 0, uint64(0)
	for fits < len(p.records)-1 {
		if size++; quota.Bytes {
			size += uint64(r.cfg.Size(p.records[fits])) - 1
		}
		if size > quota.Left {
			break
		}
		fits++
	}
	if r.most = fits; fits == 0 {
		r.most = len(p.records) / 2
		return p.err
	}
	return &wire.QuotaError{Bytes: quota.Bytes, Limit: quota.Limit, Left: quota.Left}
}

// more allows larger parts after one that was appended.
func (r *request[E]) more() {
	if r.most *= 2; r.most >= partRecords {
		r.most = 0
	}
}

// divided divides the first part if it is larger than the quota seems to allow.
func (r *request[E]) divided(underWay []*part[E]) []*part[E] {
	if p := underWay[0]; r.most > 0 && len(p.records) > r.most {
		return p.divide(r.most, underWay[1:])
	}
	return underWay
}

// abandon waits for the parts that are under way, and returns err.
func (r *request[E]) abandon(underWay []*part[E], err error) error {
	for _, p := range underWay {
		if !p.waits {
			<-p.done
		}
	}
	return err
}

// mostUnderWay returns how many parts may be under way when the next part begins with a number. The stream may have the
// first records of a request, as many as the window. Another record under such a number ends the request, and nothing
// behind it must have been appended. So these parts wait for each other.
func (r *request[E]) mostUnderWay(next uint64) int {
	if next-r.cfg.First <= uint64(r.cfg.Window) {
		return 1
	}
	return partsUnderWay
}

// retryAfter returns whether a part should be sent again, and after which time.
func retryAfter(err error) (wait time.Duration, again bool) {
	if quota, ok := errors.AsType[*wire.QuotaError](err); ok {
		return max(pause, time.Duration(quota.Wait)*time.Millisecond), true
	}
	for _, temporary := range []error{wire.ErrUnknownOutcome, wire.ErrNoLeader, wire.ErrBacklog, wire.ErrNoSpace} {
		if errors.Is(err, temporary) {
			return pause, true
		}
	}
	return 0, false
}

// readEnd returns whether the reader has ended with an empty queue, and why; nil for the end of the body.
func (r *request[E]) readEnd() (err error, end bool) { //nolint:revive,staticcheck // the error is a value here
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readErr == nil || len(r.queue) > 0 {
		return nil, false
	}
	if errors.Is(r.readErr, io.EOF) {
		return nil, true
	}
	return r.readErr, true
}

// nextPart takes the next part from the queue, nil if that is empty.
func (r *request[E]) nextPart(first uint64) (*part[E], error) {
	r.mu.Lock()
	waiting := len(r.queue)
	r.mu.Unlock()
	if waiting == 0 {
		return nil, nil
	}
	records, bytes, err := r.cfg.Limit()
	if err != nil {
		return nil, err
	}
	bound := func(limit, most int) int {
		if limit > 0 {
			return min(limit, most)
		}
		return most
	}
	records, bytes = bound(records, bound(r.most, partRecords)), bound(bytes, partBytes)
	r.mu.Lock()
	defer r.mu.Unlock()
	n, size := 0, 0
	for n < len(r.queue) && n < records {
		if size += r.cfg.Size(r.queue[n]); n > 0 && size > bytes {
			break
		}
		n++
	}
	p := &part[E]{first: first, records: r.queue[:n:n]}
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	return p, nil
}

// start sends a part.
func (r *request[E]) start(p *part[E], asHead bool) {
	p.asHead, p.waits, p.done, p.positions, p.err = asHead, false, make(chan struct{}), nil, nil
	wait := r.cfg.Submit(p.first, p.records)
	r.started.Go(func() {
		defer close(p.done)
		p.positions, p.err = wait()
		if p.err == nil && len(p.positions) != len(p.records) {
			p.err = fmt.Errorf("%d positions for %d records", len(p.positions), len(p.records))
		}
	})
}

// divide makes two parts of one, the first of them with n records, and puts them before others. The second one is sent
// when the first was appended, or was compared with what the stream has.
func (p *part[E]) divide(n int, others []*part[E]) []*part[E] {
	return append([]*part[E]{
		{first: p.first, records: p.records[:n:n], waits: true},
		{first: p.first + uint64(n), records: p.records[n:], waits: true},
	}, others...)
}

// answer hands the positions of a part to the writer.
func (r *request[E]) answer(p *part[E]) {
	bytes := 0
	for i := range p.records {
		bytes += r.cfg.Size(p.records[i])
	}
	r.mu.Lock()
	r.answers = append(r.answers, answers[E]{first: p.first, positions: p.positions, records: p.records, bytes: bytes})
	r.mu.Unlock()
	r.given.Signal()
}
