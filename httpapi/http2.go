package httpapi

import (
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
)

// The limits of an HTTP/2 connection. A client needs no token to make the server hold so much.
const (
	// streamsEach is how many requests of a connection are served at a time.
	streamsEach = 64
	// receivedEach and receivedTotal are how many bytes of one body, and of all bodies of a connection, may have
	// arrived and not have been read.
	receivedEach, receivedTotal = 64 << 10, 256 << 10
	// pingAfter is how long a connection may be silent while it has requests until it must answer a ping, and pingTime
	// how long that may take.
	pingAfter, pingTime = 30 * time.Second, 15 * time.Second
)

// acceptHTTP2 makes a server accept HTTP/2 besides HTTP/1.1: with TLS from clients that choose it (ALPN), and without
// TLS from those that know that it does.
func acceptHTTP2(server *http.Server) {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: streamsEach, MaxReceiveBufferPerStream: receivedEach,
		MaxReceiveBufferPerConnection: receivedTotal, SendPingTimeout: pingAfter, PingTimeout: pingTime,
	}
}

// pacedAnswer is the answer to a request of HTTP/2. Many share a connection, so each has an account of its own: see
// [slowest]. It is cut off if its client leaves no room for it.
type pacedAnswer struct {
	gin.ResponseWriter
	control *http.ResponseController
	endless bool // only the time of each write counts
	taken   int64
	blocked time.Duration // time that the writes took
}

// Unwrap lets [http.ResponseController] find the answer.
func (a *pacedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Write implements [io.Writer]. The answer is reset if the client takes it too slowly.
func (a *pacedAnswer) Write(p []byte) (n int, err error) {
	for {
		part := p[n:min(n+writePart, len(p))]
		m := 0
		err = a.watched(func() (err error) { m, err = a.ResponseWriter.Write(part); return err })
		n += m
		a.taken += int64(m)
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// WriteString implements [io.StringWriter].
func (a *pacedAnswer) WriteString(s string) (int, error) { return a.Write([]byte(s)) }

// Flush implements [http.Flusher].
func (a *pacedAnswer) Flush() {
	_ = a.watched(func() error { a.ResponseWriter.Flush(); return nil })
}

// watched runs a write, and resets the answer if that takes too long.
func (a *pacedAnswer) watched(write func() error) error {
	began := time.Now()
	late := time.AfterFunc(a.left(), func() { _ = a.control.SetWriteDeadline(passed) })
	err := write()
	a.blocked += time.Since(began)
	if !late.Stop() && err == nil {
		err = os.ErrDeadlineExceeded
	}
	return err
}

// left is how long the next write may take.
func (a *pacedAnswer) left() time.Duration {
	if a.endless {
		return grace
	}
	return min(grace, max(0, grace+time.Duration(a.taken)*time.Second/slowest-a.blocked))
}

// end bounds the time of the rest, which net/http sends when the request has been answered.
func (a *pacedAnswer) end() { _ = a.control.SetWriteDeadline(time.Now().Add(grace)) }
