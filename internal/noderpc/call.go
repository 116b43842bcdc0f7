package noderpc

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// target is a node that is called once, and the header of that call.
type target struct {
	transport *Transport // nil for an older node, whose answers have no MAC
	send      exchange.Send
	url       string
	header    http.Header
	sign      func(message []byte) string // with this master's key; nil for none
}

func newTarget(t *Transport, url string, cred nodeauth.Credential) target {
	return target{transport: t, send: t.As(cred), url: url, header: nodeHeader()}
}

// nodeHeader returns the header of a call between nodes.
func nodeHeader() http.Header {
	header := make(http.Header, 8)
	// With an empty list net/http may repeat the request on another connection. It is not sent.
	header[wire.HeaderIdempotencyKey] = []string{}
	return header
}

// way is how an answer came.
type way struct {
	transport *Transport // as of the target
	hostPort  string
	tls       *tls.ConnectionState
}

// watched returns the target whose answers are noted in the result.
func (t target) watched() (target, *way) {
	w, send := &way{transport: t.transport}, t.send
	t.send = func(r *http.Request) (*http.Response, error) {
		w.hostPort = hostPort(r.URL)
		resp, err := send(r)
		if err == nil {
			w.tls = resp.TLS
		}
		return resp, err
	}
	return t, w
}

// check corrects what a node says about the step of TLS: its answer came over TLS only if this side saw that too, with
// the certificate that the node says it has. Thus one in the path that has another certificate counts as plain text.
//
// A node that says in plain text that it has certificates speaks TLS. Either it was started with them just now, or
// something in the path keeps it from that.
func (w *way) check(use *wire.TLSUse, certificate *wire.Certificate) {
	if use == nil {
		return
	}
	if w.tls == nil && certificate != nil && w.transport != nil {
		w.transport.remember(w.hostPort)
	}
	id, ok := certs.PeerOf(w.tls)
	use.Secured = use.Secured && ok && certificate != nil && id.String() == certificate.Identity
}

// get requests an answer of up to limit bytes.
func (t target) get(ctx context.Context, path string, limit int) (*exchange.Answer, error) {
	return t.call(ctx, &exchange.Request{Method: http.MethodGet, Path: path, Limit: limit})
}

// post sends a body as JSON.
func (t target) post(ctx context.Context, path string, body any, limit int) (*exchange.Answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	t.header["Content-Type"] = exchange.TypeJSON
	return t.call(ctx, &exchange.Request{Method: http.MethodPost, Path: path, Body: data, Limit: limit})
}

// octets sends a binary body.
func (t target) octets(ctx context.Context, method, path string, body []byte, limit int) (*exchange.Answer, error) {
	t.header["Content-Type"] = exchange.TypeOctets
	return t.call(ctx, &exchange.Request{Method: method, Path: path, Body: body, Limit: limit})
}

// part sends a binary body. Of the answer it reads only limit bytes.
func (t target) part(ctx context.Context, path string, body []byte, limit int) (*exchange.Answer, error) {
	t.header["Content-Type"] = exchange.TypeOctets
	q := &exchange.Request{Method: http.MethodPost, Path: path, Body: body, Limit: limit, Part: true}
	return t.call(ctx, q)
}

// call sends a request. An answer that is a problem is an error.
func (t target) call(ctx context.Context, q *exchange.Request) (*exchange.Answer, error) {
	if o, ok := origin.Of(ctx); ok && t.header[wire.HeaderHops] != nil {
		t.header[wire.HeaderHops] = []string{t.hop(o, q)}
	}
	q.Base, q.Header = t.url, t.header
	a, err := exchange.Do(ctx, t.send, q)
	if err != nil {
		return nil, err
	}
	return a, withDetails(a, a.Problem())
}

// hop returns what this master says about a request of an origin that it forwards.
func (t target) hop(o trail.Origin, q *exchange.Request) string {
	h := origin.HopOf(o)
	if t.sign != nil {
		h.Signature = t.sign(h.Message(origin.Request{
			Caller: t.header.Get(wire.HeaderCaller), Method: q.Method, URI: q.Path, Body: sha256.Sum256(q.Body),
		}))
	}
	return h.String()
}

// withDetails returns the error of a problem, with the fields that some problems have in addition.
func withDetails(a *exchange.Answer, problem error) error {
	switch {
	case errors.Is(problem, wire.ErrFenced):
		var f wire.Fenced
		err := a.Decode(&f)
		if err == nil && f.Epoch != nil {
			return &wire.FencedError{Highest: wire.Order{Epoch: *f.Epoch, Term: f.Term}, Err: problem}
		}
	case errors.Is(problem, wire.ErrNotNext):
		var has wire.NotNext
		err := a.Decode(&has)
		if err != nil {
			return err
		}
		return &wire.NotNextError{Err: problem, Status: has.StorageStatus}
	case errors.Is(problem, wire.ErrOtherStart):
		var other wire.OtherStart
		err := a.Decode(&other)
		if err != nil {
			return err
		}
		return &wire.OtherStartError{Err: problem, Start: other.Start}
	case errors.Is(problem, wire.ErrRemoved):
		var said wire.Removed
		err := a.Decode(&said)
		if err != nil {
			return err
		}
		if said.Signature != "" {
			return &wire.RemovedError{Err: problem, Master: said.Master, Epoch: said.Epoch, Signature: said.Signature}
		}
	}
	return problem
}

// decode decodes the answer of a call, which is JSON.
func decode[T any](a *exchange.Answer, err error) (v T, _ error) {
	if err == nil {
		err = a.Expect(exchange.TypeJSON[0])
	}
	if err == nil {
		err = a.Decode(&v)
	}
	return v, err
}

// profileOf returns the answer of a call, which is a profile.
func profileOf(a *exchange.Answer, err error) ([]byte, error) {
	return parsed(a, err, func(profile []byte) ([]byte, error) { return profile, nil })
}

// Silent reports whether a failed call got nothing from the other node. Any answer, also one that is not of ChainStore,
// is a sign that something runs there.
func Silent(err error) bool { return exchange.Silent(err) }

// parsed parses the answer of a call, which is binary.
func parsed[T any](a *exchange.Answer, err error, parse func([]byte) (T, error)) (v T, _ error) {
	if err == nil {
		err = a.Expect(wire.TypeOctets)
	}
	if err != nil {
		return v, err
	}
	if v, err = parse(a.Body); err != nil {
		return v, fmt.Errorf("%s: %w: %w", a.Base, exchange.ErrAnswer, err)
	}
	return v, nil
}
