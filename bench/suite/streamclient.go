package suite

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

const (
	// streamWindow is how many records of a stream have no answer at a time.
	streamWindow = 1000
	// streamWrite is how many records are written at a time at most.
	streamWrite = 125
)

// streamClient appends records through an append stream: one request for each run, with up to streamWindow records
// without an answer. A client that is not in use has no connection.
type streamClient struct {
	addr, token string
	id          string
	answered    uint64 // number of the last record with a position
	count       uint64 // of the payloads
	frames      []byte // of streamWrite records, prepared
	size        int    // of a frame
}

// newStreamClient prepares the records of a client.
func newStreamClient(addr, token string, client uint64) *streamClient {
	c := &streamClient{addr: addr, token: token, id: rand.Text()}
	for range streamWrite {
		c.frames = wire.AppendFrame(c.frames, "", "", payload(client))
	}
	c.size = len(c.frames) / streamWrite
	return c
}

// connect implements caller. The run connects.
func (c *streamClient) connect(context.Context) error { return nil }

func (c *streamClient) close() error { return nil }

func (c *streamClient) until(time.Time) error { return nil }

// request implements caller. A stream is run by load.
func (c *streamClient) request() error { return errors.New("a stream makes no single requests") }

// load runs the stream for the time of a run.
func (c *streamClient) load(ctx context.Context, end time.Time) tally {
	t := tally{latencies: make([]uint32, 0, 1<<16)}
	for time.Now().Before(end) && ctx.Err() == nil {
		if err := c.stream(ctx, end, &t); err != nil && ctx.Err() == nil {
			if t.errors++; t.first == nil {
				t.first = err
			}
			c.id, c.answered = rand.Text(), 0 // what has no answer is not counted
			rest(ctx, pause)
		}
	}
	return t
}

// stream makes one request, which lasts until the end of the run.
func (c *streamClient) stream(ctx context.Context, end time.Time, t *tally) error {
	s, err := dialSocket(ctx, c.addr, nil)
	if err != nil {
		return err
	}
	if err := s.SetDeadline(end.Add(grace)); err != nil {
		return errors.Join(err, s.close())
	}
	if _, err := fmt.Fprintf(s, "POST /v1/records:stream?stream=%s&first=%d HTTP/1.1\r\nHost: %s\r\n"+
		"Authorization: Bearer %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
		c.id, c.answered+1, c.addr, c.token, wire.TypeFrames); err != nil {
		return errors.Join(err, s.close())
	}
	w := &streamRun{free: streamWindow, first: c.answered + 1}
	w.changed.L = &w.mu
	var writer sync.WaitGroup
	var writeErr error
	writer.Go(func() { writeErr = c.write(s, w, end) })
	err = c.read(s.in, w, end, t)
	w.stop()
	closed := s.close() // ends the writer if the answer ended early
	writer.Wait()
	if err != nil {
		return err // the writer's follows from it, or the other way round: then the answer says more
	}
	return errors.Join(writeErr, closed)
}

// streamRun is what the writer and the reader of a request share.
type streamRun struct {
	mu      sync.Mutex // guards all below
	changed sync.Cond
	free    int // records that may be written
	stopped bool
	first   uint64
	sent    [streamWindow]time.Time // when a record was written, by its number modulo the window
}

func (w *streamRun) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.changed.Broadcast()
}

// take waits until records may be written, and returns how many; 0 at the end.
func (w *streamRun) take(next uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.free == 0 && !w.stopped {
		w.changed.Wait()
	}
	if w.stopped {
		return 0
	}
	n := min(w.free, streamWrite)
	w.free -= n
	now := time.Now()
	for i := range uint64(n) {
		w.sent[(next+i)%streamWindow] = now
	}
	return n
}

// write writes records until the end of the run, and the end of the body.
func (c *streamClient) write(s *socket, w *streamRun, end time.Time) error {
	next := w.first
	for time.Now().Before(end) {
		n := w.take(next)
		if n == 0 {
			return nil
		}
		for i := range n {
			binary.BigEndian.PutUint64(c.frames[i*c.size+wire.FrameOverhead+counterAt:], c.count)
			c.count++
		}
		chunk := net.Buffers{fmt.Appendf(nil, "%x\r\n", n*c.size), c.frames[:n*c.size], []byte("\r\n")}
		if _, err := chunk.WriteTo(s.Conn); err != nil {
			return err
		}
		next += uint64(n)
	}
	_, err := io.WriteString(s, "0\r\n\r\n")
	return err
}

// read reads the positions until the last line of the answer.
func (c *streamClient) read(in *bufio.Reader, w *streamRun, end time.Time, t *tally) error {
	if err := streamHead(in); err != nil {
		return err
	}
	lines := bufio.NewReaderSize(httputil.NewChunkedReader(in), 64<<10)
	for {
		done := c.answered
		now := time.Now()
		for more := true; more; more = lines.Buffered() > 300 { // a line is there
			line, err := lines.ReadSlice('\n')
			if err != nil {
				return fmt.Errorf("after number %d: %w", c.answered, err)
			}
			if done == c.answered {
				now = time.Now() // of the bytes that came together
			}
			number, rest, err := lineNumber(line)
			if err != nil {
				return err
			}
			if bytes.HasPrefix(rest, []byte(`"end":true}`)) {
				return nil
			}
			if number != c.answered+1 || !bytes.HasPrefix(rest, []byte(`"block":`)) {
				return fmt.Errorf("answer %.200q after number %d", line, c.answered)
			}
			c.answered++
			t.answered++
			if !now.After(end) {
				took := now.Sub(w.sentAt(number))
				t.latencies = append(t.latencies, uint32(min(took.Microseconds(), math.MaxUint32)))
			}
		}
		w.mu.Lock()
		w.free += int(c.answered - done)
		w.mu.Unlock()
		w.changed.Signal()
	}
}

func (w *streamRun) sentAt(number uint64) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[number%streamWindow]
}

// lineNumber returns the number of an answer, and what follows it.
func lineNumber(line []byte) (number uint64, rest []byte, err error) {
	text, ok := bytes.CutPrefix(line, []byte(`{"number":`))
	digits, rest, found := bytes.Cut(text, []byte(","))
	if ok && found {
		number, err = strconv.ParseUint(string(digits), 10, 64)
	}
	if !ok || !found || err != nil {
		return 0, nil, fmt.Errorf("answer %.200q: %w", line, errMalformed)
	}
	return number, rest, nil
}

// streamHead reads the head of the answer to a stream.
func streamHead(in *bufio.Reader) error {
	status, chunked := "", false
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("headers cut short: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case status == "":
			status = string(line)
		case len(line) == 0 && status == "HTTP/1.1 200 OK" && chunked:
			return nil
		case len(line) == 0:
			body, _ := in.Peek(in.Buffered()) // as far as it is there
			return fmt.Errorf("%w: %s, chunked: %v; %.300s", errMalformed, status, chunked, body)
		case is(name, "transfer-encoding"):
			chunked = string(bytes.TrimSpace(value)) == "chunked"
		}
	}
}
