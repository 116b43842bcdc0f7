package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

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

// Uses returns the sessions of callers.
func (n *Nodes) Uses() []nodeauth.Use { return n.receiver.Uses() }

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
