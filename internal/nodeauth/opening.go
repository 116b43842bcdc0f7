package nodeauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// usable reports whether a session can be used for a call.
func (c *Caller) usable(o *opened, st *state, s *Secret) bool {
	if st == nil {
		return false
	}
	if !st.older.IsZero() {
		return time.Since(st.older) < olderTime && c.older != nil && c.older() && !c.provedLately(o.address)
	}
	return s.position(st.base) >= 0
}

// attempt opens a session for all calls that wait for it. They share its failure, so that calls to a node that does not
// answer wait no longer than one.
type attempt struct {
	cancel  context.CancelFunc
	waiting int // calls; guarded by the mutex of the session

	done    chan struct{} // closed when the result is set
	state   *state
	refused *refusal
	err     error
}

// state returns an open session, or else the refusal to open one.
func (c *Caller) state(
	ctx context.Context, o *opened, base string, cred Credential,
) (*state, *refusal, error) {
	if st := o.state.Load(); c.usable(o, st, cred.Secret) {
		return st, nil, nil
	}
	o.mu.Lock()
	if st := o.state.Load(); c.usable(o, st, cred.Secret) {
		o.mu.Unlock()
		return st, nil, nil
	}
	if err := ctx.Err(); err != nil {
		o.mu.Unlock()
		return nil, nil, err
	}
	a := o.attempt
	if a == nil {
		// It goes on while any call waits, not only the first.
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
		a = &attempt{cancel: cancel, done: make(chan struct{})}
		o.attempt = a
		go c.attempt(own, o, a, base, cred)
	}
	a.waiting++
	o.mu.Unlock()
	select {
	case <-a.done:
		return a.state, a.refused, a.err
	case <-ctx.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.waiting--; a.waiting == 0 {
		a.cancel()
		if o.attempt == a {
			o.attempt = nil // the next call does not get its failure
		}
	}
	return nil, nil, ctx.Err()
}

// attempt opens a session with the first token that the other side accepts.
func (c *Caller) attempt(ctx context.Context, o *opened, a *attempt, base string, cred Credential) {
	defer a.cancel()
	defer close(a.done)
	tokens := cred.Secret.list()
	if len(tokens) == 0 {
		a.err = fmt.Errorf("%w: this node has no secret for %s", wire.ErrUnauthorized, cred.Purpose)
	}
	for _, t := range tokens {
		a.state, a.refused, a.err = c.open(ctx, o, base, cred, t)
		if a.refused != nil && a.refused.said == NewSession {
			// The other side was restarted after its first answer.
			a.state, a.refused, a.err = c.open(ctx, o, base, cred, t)
		}
		if a.err != nil || a.state != nil {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempt == a {
		o.attempt = nil
	}
	if a.state != nil {
		o.state.Store(a.state)
	}
}

// refusal is the answer of a node that opens no session.
type refusal struct {
	status int
	header http.Header
	body   []byte
	said   string // in the header [wire.HeaderAuth]
}

// answer returns the refusal as the answer to a request.
func (f *refusal) answer(r *http.Request) *http.Response {
	header := f.header.Clone()
	header.Set(wire.HeaderAuth, Refused)
	return &http.Response{
		Status: http.StatusText(f.status), StatusCode: f.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(f.body)), ContentLength: int64(len(f.body)), Request: r,
	}
}

// refusalOf returns the refusal that an answer is, nil for another answer.
func refusalOf(resp *http.Response, body []byte) *refusal {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return nil
	}
	return &refusal{
		status: resp.StatusCode, header: resp.Header, body: body,
		said: resp.Header.Get(wire.HeaderAuth),
	}
}

// hintOf adds to an error what an answer of package http to plain text means. It has no MAC, so nothing else follows
// from it.
func hintOf(body []byte) string {
	if !bytes.HasPrefix(body, []byte("Client sent an HTTP request to an HTTPS server.")) {
		return ""
	}
	return ": it speaks TLS, and was called in plain text: start this node with certificates (--tls-cert)"
}

// open opens a session with one token. It returns the refusal of a node that has another secret.
func (c *Caller) open(
	ctx context.Context, o *opened, base string, cred Credential, t token,
) (*state, *refusal, error) {
	h := hello{purpose: cred.Purpose, caller: c.self, nonce: fresh()}
	challenge, resp, err := c.post(ctx, base, h.encode(stepHello))
	if err != nil {
		return nil, nil, err
	}
	refused := refusalOf(resp, challenge)
	switch {
	case refused != nil:
		return nil, refused, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		if c.older == nil || !c.older() {
			return nil, nil, ErrUnsigned
		}
		if c.provedLately(o.address) {
			return nil, nil, fmt.Errorf("%w; a node of this version was there less than %v ago, so no token is sent "+
				"(if the node was put back to an older version, restart the caller)", ErrUnsigned, provedTime)
		}
		return &state{older: time.Now()}, nil, nil
	case resp.StatusCode != http.StatusOK || len(challenge) != challengeSize:
		return nil, nil, fmt.Errorf("%w: open a session: status %d%s", ErrAnswer, resp.StatusCode, hintOf(challenge))
	case Process(challenge) == c.self:
		return nil, nil, fmt.Errorf("%w: this process has called itself", ErrAnswer)
	}
	message := append(h.encode(stepOpen), challenge...)
	name := c.name()
	name = name[:min(len(name), maxName)]
	message = append(append(message, byte(len(name))), name...)
	k := keyOf(t.base, cred.Purpose, cred.Bound)
	mac := k.mac(labelOpen, message)
	message = append(message, mac[:]...)
	answer, resp, err := c.post(ctx, base, message)
	if err != nil {
		return nil, nil, err
	}
	switch refused := refusalOf(resp, answer); {
	case refused != nil:
		return nil, refused, nil
	case resp.StatusCode != http.StatusOK || len(answer) != openedSize:
		return nil, nil, fmt.Errorf("%w: open a session: status %d%s", ErrAnswer, resp.StatusCode, hintOf(answer))
	}
	st := &state{session: [sessionSize]byte(answer), base: t.base}
	if want := k.mac(labelOpened, message, st.session[:]); !equal(want[:], answer[sessionSize:]) {
		return nil, nil, fmt.Errorf("%w: open a session: it does not prove the secret", ErrAnswer)
	}
	st.keys = keysOf(k, message, st.session)
	c.hasProved(o.address)
	return st, nil, nil
}

// hasProved records that the node at an address has proved the secret.
func (c *Caller) hasProved(at *address) { at.proved.Store(int64(max(1, time.Since(c.began)))) }

// provedLately reports whether the node at an address has proved the secret within [provedTime].
func (c *Caller) provedLately(at *address) bool {
	proved := at.proved.Load()
	return proved > 0 && time.Since(c.began)-time.Duration(proved) < provedTime
}

// post sends a message that opens a session, and returns the body of the answer.
func (c *Caller) post(ctx context.Context, base string, message []byte) ([]byte, *http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+wire.PathSession, bytes.NewReader(message))
	if err != nil {
		return nil, nil, err
	}
	r.Header = http.Header{"Content-Type": {wire.TypeOctets}, wire.HeaderIdempotencyKey: {}}
	resp, err := c.send(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		// The cause is not wrapped: something has answered, so the node does not count as silent.
		return nil, nil, fmt.Errorf("%w: open a session: the answer broke off: %v", ErrAnswer, err)
	}
	return body, resp, nil
}

// maxAnswer bounds the answer to a message that opens a session, which may be a problem.
const maxAnswer = 16 << 10

// sendBearer sends a request to a node that knows no sessions.
func (c *Caller) sendBearer(
	r *http.Request, cred Credential, send Send, o *opened, try int,
) (*http.Response, error) {
	if try > 0 && r.GetBody != nil { // the first try has closed the body
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r = r.WithContext(r.Context())
		r.Body = body
	}
	if len(r.Header["Authorization"]) == 0 {
		r = asBearer(r, cred)
		if warn := c.warn.Load(); warn != nil && !o.address.warned.Swap(true) {
			(*warn)(r.URL.Scheme + "://" + r.URL.Host)
		}
	}
	resp, err := send(r)
	if err == nil {
		resp.Header.Del(wire.HeaderAuth) // it would mean that nothing was sent
	}
	return resp, err
}

// asBearer returns a copy of a request, with the token.
func asBearer(r *http.Request, cred Credential) *http.Request {
	r = r.Clone(r.Context())
	bearer := cred.Secret.First()
	if cred.Purpose == Orders {
		bearer = cred.Bound
	}
	r.Header["Authorization"] = []string{"Bearer " + bearer}
	return r
}
