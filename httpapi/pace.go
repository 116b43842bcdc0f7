package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

const (
	// drainBytes is how much of a refused body is read after the answer was sent, and drainTime how long. A client that
	// is still sending would get a reset instead of the answer otherwise.
	drainBytes = 64 << 20
	lingerTime = 2 * time.Second
	// soon is how long a refusal waits for the rest of a body that is about to arrive, so that the connection can be
	// used again.
	soon = 10 * time.Millisecond
	// soonBytes is how much of it is read.
	soonBytes = 256 << 10
)

// pacedBody is the body of a request. It must arrive at the rate slowest, and move within grace.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	began   time.Time
	expects bool // the client waits for 100 Continue, which the first read sends
	arrived int64
	chunked bool // after one deadline net/http reads nothing more of it
	slow    bool // only the time without any byte counts
	ended   bool // the end was read, or an error
	late    bool // its time is over

	mu      sync.Mutex // guards stopped, and the deadline of reads
	stopped bool       // see StopBody
}

// pace bounds the time that the body of a request takes, and begins the account of the answer.
func (e *Engine) pace(c *gin.Context) {
	multiplexed := c.Request.ProtoMajor > 1
	conn := connectionOf(c.Request)
	switch {
	case multiplexed:
		if conn != nil {
			conn.shared.Store(true)
		}
		a := &pacedAnswer{ResponseWriter: c.Writer, control: http.NewResponseController(c.Writer)}
		defer a.end()
		c.Writer = a
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), answerKey{}, a))
	case conn != nil:
		conn.beginAnswer()
	}
	if c.Request.Body == nil || c.Request.Body == http.NoBody {
		c.Next()
		return
	}
	b := &pacedBody{
		ReadCloser: c.Request.Body, control: http.NewResponseController(c.Writer), began: time.Now(),
		expects: strings.EqualFold(c.GetHeader("Expect"), "100-continue"), chunked: c.Request.ContentLength < 0,
	}
	b.until(b.began.Add(grace)) // for net/http, which reads what the handler leaves
	// net/http looks at the body of its own request, which must stay as it is.
	c.Request = c.Request.WithContext(c.Request.Context())
	c.Request.Body = b
	if !multiplexed && (c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead) {
		c.Header("Connection", "close") // no route reads this body, and the answer must not wait for it
	}
	c.Next()
}

// Read implements [io.Reader]. The error wraps [wire.ErrSlowBody] if the body comes too slowly.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	now := time.Now()
	deadline := now.Add(grace)
	if total := b.began.Add(grace + time.Duration(b.arrived)*time.Second/slowest); !b.slow && total.Before(deadline) {
		deadline = total
	}
	b.until(deadline)
	n, err := b.ReadCloser.Read(p)
	b.expects = false
	b.arrived += int64(n)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.late = true
		err = fmt.Errorf("%w: %d bytes of it came in %v", wire.ErrSlowBody, b.arrived,
			time.Since(b.began).Round(time.Second))
	default:
		b.ended = true
		b.until(time.Time{}) // net/http now waits for the end of the connection
	}
	return n, err
}

// until sets the deadline of reads. A server that has none, in tests, reads without.
func (b *pacedBody) until(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		t = passed
	}
	_ = b.control.SetReadDeadline(t)
}

// passed is a deadline that has passed.
var passed = time.Unix(1, 0)

// StopBody makes reads of the body of a request fail, now and in the future. Another goroutine than that which reads
// may call it. The connection cannot be used again.
func StopBody(r *http.Request) {
	if b, ok := r.Body.(*pacedBody); ok {
		b.mu.Lock()
		b.stopped = true
		b.mu.Unlock()
		b.until(passed)
	}
}

// skip reads and drops up to n bytes, for some time. It reports whether the body has ended.
func (b *pacedBody) skip(n int64, wait time.Duration) bool {
	b.until(time.Now().Add(wait))
	_, err := io.CopyN(io.Discard, b.ReadCloser, n)
	b.ended = b.ended || errors.Is(err, io.EOF)
	if b.ended {
		b.until(time.Time{})
	}
	return b.ended
}

// SlowBody declares that the body of a request may come at any rate, as long as it moves.
func SlowBody(r *http.Request) {
	if b, ok := r.Body.(*pacedBody); ok {
		b.slow = true
	}
}

// unread returns the body of a request if its end was not read.
func unread(r *http.Request) *pacedBody {
	if b, ok := r.Body.(*pacedBody); ok && !b.ended {
		return b
	}
	return nil
}

// refuse sends an answer to a request whose body may still be arriving. The answer does not wait for it.
func refuse(c *gin.Context, send func()) {
	b := unread(c.Request)
	if c.Request.ProtoMajor > 1 { // net/http tells the client to send no more, and the connection stays
		send()
		return
	}
	if b == nil || !b.expects && !b.late && !b.chunked && b.skip(soonBytes, soon) {
		send()
		return
	}
	c.Header("Connection", "close") // so net/http does not read the rest first
	send()
	if b.expects {
		return // nothing will come
	}
	if a, ok := c.Writer.(*signedAnswer); ok {
		a.end() // with its MAC in the header: the sender may not wait for a trailer
	}
	c.Writer.Flush()
	b.skip(drainBytes, lingerTime)
}
