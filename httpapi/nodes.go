package httpapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// Secure returns a listener for [Serve] whose connections have TLS. While plain returns true they may also be in plain
// text; nil for never. The listener must be closed.
func Secure(l net.Listener, store *certs.Store, plain func() bool) *SecureListener {
	return newSecureListener(l, store.Server("http/1.1"), plain)
}

// SecureUsers is Secure for [ServeUsers].
func SecureUsers(l net.Listener, store *certs.Store, plain func() bool) *SecureListener {
	return newSecureListener(l, store.Server("h2", "http/1.1"), plain)
}

// Peer returns the node that sends a request, by its certificate. ok is false for a user, and without TLS.
func Peer(c *gin.Context) (id certs.Identity, ok bool) { return certs.PeerOf(c.Request.TLS) }

// openingFor returns the least opening in which a route takes plain text.
func openingFor(route string) certs.Opening {
	switch {
	case route == "/livez" || route == "/readyz":
		return certs.ToHealth
	case strings.HasPrefix(route, "/internal/v1/") || strings.HasPrefix(route, "/worker/v1/"):
		return certs.ToNodes
	default:
		return certs.ToAll
	}
}

// TakePlain makes routes take requests in plain text as far as opening allows: see [certs.Port.Opening]. It also counts
// on connections from before. TakePlain must be called before routes and other middleware are added.
func (e *Engine) TakePlain(opening func() certs.Opening) {
	e.plain = func() bool { return opening() > certs.Closed }
	e.Use(func(c *gin.Context) {
		if c.Request.TLS != nil {
			return
		}
		now := opening()
		if now >= openingFor(c.FullPath()) {
			return
		}
		c.Header("Connection", "close")
		switch {
		case now > certs.Closed:
			e.Fail(c, fmt.Errorf("%w: this node takes no plain text before it has heard from a leader since its "+
				"start, as the cluster may require TLS by now: try again later, or call it at https://%s if it has "+
				"certificates (--tls-cert)", wire.ErrUnavailable, c.Request.Host))
		default:
			e.Fail(c, fmt.Errorf("%w: the nodes of this cluster take no plain text: call this one at https://%s, and "+
				"trust the authority of the cluster (--tls-ca)", wire.ErrTLSRequired, c.Request.Host))
		}
	})
}

// InPlainText reports whether a request to a node with certificates came in plain text, which the node takes now. It
// has no certificate then.
func (e *Engine) InPlainText(r *http.Request) bool {
	return r.TLS == nil && e.plain != nil && e.plain()
}

// Only is middleware that refuses nodes whose role is another one, by their certificates. secured says whether nodes
// have certificates: otherwise all may pass.
func (e *Engine) Only(secured bool, roles ...string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !secured || e.InPlainText(c.Request) {
			return
		}
		switch id, ok := Peer(c); {
		case !ok:
			e.Fail(c, fmt.Errorf("%w: this route is for nodes with a certificate: %s", wire.ErrForbidden,
				strings.Join(roles, ", ")))
		case !slices.Contains(roles, id.Role):
			e.Fail(c, fmt.Errorf("%w: this route is for nodes with the role %s, and the certificate is that of %s",
				wire.ErrForbidden, strings.Join(roles, " or "), id))
		}
	}
}

// Nodes says which nodes may call a role, and how they prove it.
type Nodes struct {
	Accept  map[string]nodeauth.Accepted // by purpose
	Secured bool                         // nodes have certificates
	// Bearers reports whether older nodes may still send the token itself. nil for never.
	Bearers func() bool
	// Streamed is the route whose body needs no MAC, because it proves itself; "" for none.
	Streamed string

	// Process is that of the node's own calls; zero for another one.
	Process nodeauth.Process

	receiver *nodeauth.Receiver
}

// proofKey is the key of a request's context for its proof.
type proofKey struct{}

// ProofOf returns what a request proves about the node that sends it, nil for nothing.
func ProofOf(r *http.Request) *nodeauth.Proof {
	p, _ := r.Context().Value(proofKey{}).(*nodeauth.Proof)
	return p
}

// Authenticate adds middleware that verifies the proofs of nodes and signs the answers to them, and the route that
// opens sessions. It comes before all middleware that may answer, so that no refusal can be forged. A request without a
// proof passes: see [Engine.Requires].
func (e *Engine) Authenticate(n *Nodes) {
	if n.Process == (nodeauth.Process{}) {
		n.Process = nodeauth.NewProcess()
	}
	n.receiver = nodeauth.NewReceiver(n.Process, n.Accept)
	e.Use(func(c *gin.Context) {
		if c.GetHeader(wire.HeaderAuth) == "" || c.Request.URL.Path == wire.PathSession {
			return
		}
		received := *c.Request
		paced, _ := c.Request.Body.(*pacedBody)
		if paced != nil {
			received.Body = paced.ReadCloser
		}
		streamed := n.Streamed != "" && c.FullPath() == n.Streamed
		proof, body, err := n.receiver.Check(&received, peerName(c), streamed)
		if err != nil {
			e.refuseProof(c, err)
			return
		}
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), proofKey{}, proof))
		if paced != nil {
			paced.ReadCloser = body
		} else if body != nil {
			c.Request.Body = body
		}
		signAnswer(c, proof)
	})
	e.POST(wire.PathSession, e.Only(n.Secured, certs.Master, certs.Storage, certs.Miner), func(c *gin.Context) {
		answer, err := n.receiver.Open(c.Request.Body, peerName(c))
		if err != nil {
			e.refuseProof(c, err)
			return
		}
		c.Data(http.StatusOK, wire.TypeOctets, answer)
	})
}

// peerName names the certificate of a node, "" for none.
func peerName(c *gin.Context) string {
	if id, ok := Peer(c); ok {
		return id.String()
	}
	return ""
}

// refuseProof answers a request whose proof cannot be used. The answer has no MAC: its header says so.
func (e *Engine) refuseProof(c *gin.Context, err error) {
	said := nodeauth.Refused
	if errors.Is(err, nodeauth.ErrNoSession) {
		said = nodeauth.NewSession // as after a restart
	} else {
		e.logStranger(c)
	}
	c.Header(wire.HeaderAuth, said)
	e.Fail(c, err)
}

// Requires is middleware that refuses requests of all but the nodes that prove one of the purposes.
func (e *Engine) Requires(n *Nodes, purposes ...string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := n.check(c.Request, purposes); err != nil {
			e.logStranger(c)
			e.Fail(c, err)
			return
		}
		Proven(c.Request, Node)
	}
}

// RequiresProof is Requires for a route that has a token of its own, which older nodes send alone.
func (e *Engine) RequiresProof(n *Nodes, purposes ...string) gin.HandlerFunc {
	required := e.Requires(n, purposes...)
	return func(c *gin.Context) {
		if ProofOf(c.Request) != nil || n.Bearers == nil || !n.Bearers() {
			required(c)
		}
	}
}

// check returns an error unless a request proves one of the purposes.
func (n *Nodes) check(r *http.Request, purposes []string) error {
	if proof := ProofOf(r); proof != nil {
		for _, purpose := range purposes {
			if proof.Purpose == purpose {
				return nil
			}
		}
		return fmt.Errorf("%w: this route is for %s, and the caller proves the secret for %s", wire.ErrForbidden,
			strings.Join(purposes, ", "), proof.Purpose)
	}
	token, err := Bearer(r)
	if err != nil {
		return fmt.Errorf("%w: this route is for nodes, which prove their secret", wire.ErrUnauthorized)
	}
	known := false
	for _, purpose := range purposes {
		a := n.Accept[purpose]
		if purpose == nodeauth.Orders {
			known = known || NewSecret(a.Bound).Matches(token)
		} else {
			known = known || a.Secret.Matches(token)
		}
	}
	switch {
	case !known:
		return fmt.Errorf("%w: this route takes another token than the one that was sent", wire.ErrUnauthorized)
	case n.Bearers == nil || !n.Bearers():
		return fmt.Errorf("%w: nodes prove their secret and do not send it: start the caller with the version of "+
			"ChainStore that the masters have, and replace the secret if the network is not trusted",
			wire.ErrUnauthorized)
	}
	return nil
}

// logStranger logs a request that does not have the secret of the nodes.
func (e *Engine) logStranger(c *gin.Context) {
	host, _, _ := net.SplitHostPort(c.Request.RemoteAddr)
	if e.strangers.newOne(host, time.Now()) {
		e.Log.Warn("a request to a route of the nodes was refused: it does not have their secret; other "+
			"requests from this address are not logged for a while", "address", host, "route", c.FullPath())
	}
}

// maxBuffered is the size up to which an answer waits for its end, so that its MAC is in its header. The MAC of a
// longer one is in its trailer.
const maxBuffered = 64 << 10

// signedAnswer signs the answer to a node. The goroutine of the request uses it.
type signedAnswer struct {
	gin.ResponseWriter
	proof    *nodeauth.Proof
	head     bool // only the header is sent
	ended    bool // the answer was sent
	failed   bool // the answer is not whole, so it gets no MAC
	buffered []byte
	sum      hash.Hash // of a body that is being sent; nil while it is buffered
}

// signAnswer runs the rest of the handlers, and signs their answer.
func signAnswer(c *gin.Context, proof *nodeauth.Proof) {
	inner := c.Writer
	a := &signedAnswer{ResponseWriter: inner, proof: proof, head: c.Request.Method == http.MethodHead}
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

// hasBegun reports whether a part of the answer was sent.
func hasBegun(c *gin.Context) bool {
	if a, ok := c.Writer.(*signedAnswer); ok {
		return a.sum != nil || a.ResponseWriter.Written()
	}
	return c.Writer.Written()
}

// reset takes an answer back of which nothing was sent.
func (a *signedAnswer) reset() {
	a.buffered = nil
	a.Header().Del("Content-Length")
}

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
	if a.sum == nil && (a.head || len(a.buffered)+len(p) <= maxBuffered) {
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
	if a.ended || a.begin() == nil {
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
	if a.ended {
		return
	}
	a.ended = true
	if a.failed {
		return
	}
	if a.sum != nil {
		a.Header().Set(wire.HeaderAuth, a.proof.Answer(a.Status(), a.Header(), a.sum.Sum(nil)))
		return
	}
	if a.ResponseWriter.Written() {
		return // it was taken over
	}
	a.setType()
	sum := sha256.Sum256(a.buffered)
	if a.head {
		sum = sha256.Sum256(nil)
	}
	a.Header().Set(wire.HeaderAuth, a.proof.Answer(a.Status(), a.Header(), sum[:]))
	if len(a.buffered) == 0 {
		a.ResponseWriter.WriteHeaderNow()
		return
	}
	a.Header().Set("Content-Length", strconv.Itoa(len(a.buffered)))
	_, _ = a.ResponseWriter.Write(a.buffered)
}
