package httpapi

import (
	"crypto/sha256"
	"hash"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// maxBuffered is the size up to which an answer waits for its end, so that its MAC is in its header. The MAC of a
// longer one is in its trailer.
const maxBuffered = 64 << 10

// signedAnswer signs the answer to a node. The goroutine of the request uses it.
type signedAnswer struct {
	gin.ResponseWriter
	proof    *nodeauth.Proof
	buffered []byte
	sum      hash.Hash // of a body that is being sent; nil while it is buffered
}

// signAnswer runs the rest of the handlers, and signs their answer.
func signAnswer(c *gin.Context, proof *nodeauth.Proof) {
	inner := c.Writer
	a := &signedAnswer{ResponseWriter: inner, proof: proof}
	c.Writer = a
	ended := false
	defer func() {
		c.Writer = inner // also after a panic, whose answer is not signed
		if ended {
			a.end()
		}
	}()
	c.Next()
	ended = true
}

// Unwrap lets [http.ResponseController] reach the connection.
func (a *signedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Written implements [gin.ResponseWriter].
func (a *signedAnswer) Written() bool { return len(a.buffered) > 0 || a.ResponseWriter.Written() }

// Size implements [gin.ResponseWriter].
func (a *signedAnswer) Size() int {
	if a.sum == nil {
		return len(a.buffered)
	}
	return a.ResponseWriter.Size()
}

// WriteHeaderNow implements [gin.ResponseWriter]. The header is sent with the body.
func (a *signedAnswer) WriteHeaderNow() {}

// Write implements [io.Writer].
func (a *signedAnswer) Write(p []byte) (int, error) {
	if a.sum == nil && len(a.buffered)+len(p) <= maxBuffered {
		a.buffered = append(a.buffered, p...)
		return len(p), nil
	}
	if err := a.begin(); err != nil {
		return 0, err
	}
	a.sum.Write(p)
	return a.ResponseWriter.Write(p)
}

// WriteString implements [io.StringWriter].
func (a *signedAnswer) WriteString(s string) (int, error) { return a.Write([]byte(s)) }

// Flush implements [http.Flusher].
func (a *signedAnswer) Flush() {
	if a.begin() == nil {
		a.ResponseWriter.Flush()
	}
}

// begin sends what is buffered. From then on the body is sent as it comes.
func (a *signedAnswer) begin() error {
	if a.sum != nil {
		return nil
	}
	a.sum = sha256.New()
	a.setType()
	a.Header().Set("Trailer", wire.HeaderAuth)
	a.Header().Del("Content-Length")
	a.sum.Write(a.buffered)
	_, err := a.ResponseWriter.Write(a.buffered)
	a.buffered = nil
	return err
}

// setType sets the type that net/http would otherwise guess after the MAC was made.
func (a *signedAnswer) setType() {
	if len(a.buffered) > 0 && a.Header().Get("Content-Type") == "" {
		a.Header().Set("Content-Type", wire.TypeOctets)
	}
}

// end sends the rest of the answer, with its MAC. A failed write breaks the connection, which the caller notices.
func (a *signedAnswer) end() {
	if a.sum != nil {
		a.Header().Set(wire.HeaderAuth, a.proof.Answer(a.Status(), a.Header(), a.sum.Sum(nil)))
		return
	}
	if a.ResponseWriter.Written() {
		return // it was taken over
	}
	a.setType()
	sum := sha256.Sum256(a.buffered)
	a.Header().Set(wire.HeaderAuth, a.proof.Answer(a.Status(), a.Header(), sum[:]))
	if len(a.buffered) == 0 {
		a.ResponseWriter.WriteHeaderNow()
		return
	}
	a.Header().Set("Content-Length", strconv.Itoa(len(a.buffered)))
	_, _ = a.ResponseWriter.Write(a.buffered)
}
