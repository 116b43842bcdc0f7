package nodeauth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// ErrAnswer is the error of an answer without the MAC of the node that was called. It counts as no answer.
var ErrAnswer = errors.New("the answer was not made by the node that was called, or was changed on its way")

// ErrUnsigned is the error of a call to a node that knows no sessions.
var ErrUnsigned = errors.New("the node does not know authenticated calls: it runs an older version of ChainStore, " +
	"or something else listens there; upgrade it, or give --older-nodes if you trust the network")

const (
	// openTime bounds the time in which a session is opened.
	openTime = 5 * time.Second
	// olderTime is how long a node is taken for an older one without asking again.
	olderTime = 30 * time.Second
	// keepSession is how long a caller keeps a session that it does not use.
	keepSession = time.Hour
	// provedTime is how long an address that has proved the secret gets no bearer token. It has no older node then,
	// unless the node was put back to an older version.
	provedTime = time.Hour
)

// Send sends one request, as [http.Transport.RoundTrip] does.
type Send func(*http.Request) (*http.Response, error)

// Credential is what a call proves.
type Credential struct {
	Secret  *Secret
	Purpose string
	Bound   string // a worker's master token, for [Orders]
}

// Caller signs requests and verifies their answers. It may be used by many goroutines.
type Caller struct {
	self Process
	send Send          // opens sessions
	name func() string // of this node, for the other side's reports
	// older says whether nodes of older versions, which know no sessions, get a bearer token. nil for never.
	older func() bool
	began time.Time
	warn  atomic.Pointer[func(base string)]

	mu        sync.Mutex // guards sessions and addresses
	sessions  map[sessionName]*opened
	addresses map[string]*address // by the base of the URL; as many as there are nodes
}

// sessionName names a session of a caller.
type sessionName struct {
	base           string // of the URL
	secret         *Secret
	purpose, bound string
}

// address is what a caller knows about the node at an address, for all its sessions.
type address struct {
	proved atomic.Int64 // when it last proved the secret, in nanoseconds since the caller began; 0 for never
	warned atomic.Bool  // that it got a bearer token
}

// opened is a session of a caller, which may not be open yet.
type opened struct {
	address *address
	state   atomic.Pointer[state] // nil while there is none
	used    atomic.Int64          // unix nanoseconds
	counter atomic.Uint64         // of requests, in all sessions of the name

	mu      sync.Mutex // guards attempt
	attempt *attempt   // nil while no session is being opened
}

// state is an open session, or that the node is an older one.
type state struct {
	session [sessionSize]byte
	keys    sessionKeys
	base    [sha256.Size]byte // of the token that opened it
	older   time.Time         // when the node was found to know no sessions; zero for others
}

// NewCaller returns the caller of a process. send opens sessions. older says whether nodes of older versions get a
// bearer token, nil for never.
func NewCaller(self Process, send Send, name func() string, older func() bool) *Caller {
	return &Caller{
		self: self, send: send, name: name, older: older, began: time.Now(),
		sessions: map[sessionName]*opened{}, addresses: map[string]*address{},
	}
}

// WarnBearer sets a function that is called before the first bearer token is sent to an address.
func (c *Caller) WarnBearer(warn func(base string)) { c.warn.Store(&warn) }

// notSent is the error of a call that ended before its request was sent.
type notSent struct{ error }

// Unwrap returns the cause.
func (e notSent) Unwrap() error { return e.error }

// NotSent reports whether a call failed before its request was sent, since no session could be opened.
func NotSent(err error) bool {
	_, ok := errors.AsType[notSent](err)
	return ok
}

// Do sends a request with a proof. The answer's body fails with [ErrAnswer] at its end if it is not the one that the
// other node signed, together with the status and header. The body of a request must have GetBody to be covered.
//
// If the other side does not know the session, a request that net/http would repeat is sent again, once. Others get a
// session that was opened just before. Where the other side refuses to open a session, its answer is returned, with
// [Refused] in the header [wire.HeaderAuth]. A refusal of a request that was sent is not signed, so it is an error: the
// request may have had its effect.
func (c *Caller) Do(r *http.Request, cred Credential, send Send) (*http.Response, error) {
	base := r.URL.Scheme + "://" + r.URL.Host
	o := c.of(sessionName{base, cred.Secret, cred.Purpose, cred.Bound})
	again := repeatable(r)
	if st := o.state.Load(); !again && st != nil && st.older.IsZero() {
		o.state.CompareAndSwap(st, nil) // the other side may have lost it
	}
	for try := 0; ; try++ {
		st, refused, err := c.state(r.Context(), o, base, cred)
		if err != nil || refused != nil {
			if r.Body != nil {
				_ = r.Body.Close() // as a transport does
			}
			if try > 0 {
				return nil, lost(r, refused, err)
			}
			if err != nil {
				return nil, notSent{err}
			}
			return refused.answer(r), nil
		}
		if !st.older.IsZero() {
			return c.sendBearer(r, cred, send, o, try)
		}
		signed, p, err := c.sign(r, o, st)
		if err != nil {
			return nil, err // of the body, which is closed
		}
		resp, err := send(signed)
		if err != nil {
			return nil, err
		}
		said := resp.Header.Get(wire.HeaderAuth)
		if resp.StatusCode != http.StatusUnauthorized || said != NewSession && said != Refused {
			return c.verified(resp, p, o, st)
		}
		o.state.CompareAndSwap(st, nil)
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		_ = resp.Body.Close()
		if said != NewSession || !again || try > 0 {
			return nil, fmt.Errorf("%w: it is a refusal without a MAC (%s)", ErrAnswer, said)
		}
	}
}

// repeatable reports whether a request may have its effect twice, as net/http decides it.
func repeatable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return false
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, marked := r.Header[wire.HeaderIdempotencyKey]
	return marked
}

// lost is the error of a request that was sent, and for which no second session could be opened.
func lost(r *http.Request, refused *refusal, err error) error {
	if err == nil {
		err = fmt.Errorf("it is refused with status %d", refused.status)
	} else if r.Context().Err() != nil {
		return err
	}
	// The cause is not wrapped: it may be one that says that nothing was sent.
	return fmt.Errorf("%w: it does not know the session, and another one cannot be opened: %v", ErrAnswer, err)
}

// NewSession and Refused are the content of the header in answers that are not signed: the request has no usable
// session, or another proof than the one that is needed.
const (
	NewSession = "new-session"
	Refused    = "refused"
)

// of returns the session of a name.
func (c *Caller) of(name sessionName) *opened {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.sessions[name]
	if o == nil {
		for name, other := range c.sessions {
			if time.Since(time.Unix(0, other.used.Load())) > keepSession {
				delete(c.sessions, name)
			}
		}
		at := c.addresses[name.base]
		if at == nil {
			at = &address{}
			c.addresses[name.base] = at
		}
		o = &opened{address: at}
		c.sessions[name] = o
	}
	o.used.Store(time.Now().UnixNano())
	return o
}

// sign returns a copy of a request, with its proof.
func (c *Caller) sign(r *http.Request, o *opened, st *state) (*http.Request, *proof, error) {
	p := &proof{session: st.session, counter: o.counter.Add(1), covered: true, digest: emptyDigest}
	signed := r.WithContext(r.Context())
	signed.Header = r.Header.Clone()
	switch {
	case r.GetBody != nil:
		if r.Body != nil {
			_ = r.Body.Close() // the copy has one of its own
		}
		sum := sha256.New()
		body, err := r.GetBody()
		if err != nil {
			return nil, nil, err
		}
		_, err = io.Copy(sum, body)
		if err = errors.Join(err, body.Close()); err != nil {
			return nil, nil, err
		}
		p.digest = [digestSize]byte(sum.Sum(nil))
		if signed.Body, err = r.GetBody(); err != nil {
			return nil, nil, err
		}
	case r.Body != nil && r.Body != http.NoBody:
		p.covered, p.digest = false, [digestSize]byte{}
	}
	p.mac = p.sign(st.keys.request, r.Method, r.URL.RequestURI(), signed.Header)
	signed.Header[wire.HeaderAuth] = []string{p.String()}
	return signed, p, nil
}

// verified returns an answer whose body fails unless the other node signed the answer. An answer without a body is
// verified at once. After another answer the session is given up: the node may be another one by now.
func (c *Caller) verified(resp *http.Response, p *proof, o *opened, st *state) (*http.Response, error) {
	check := func(digest []byte) error {
		text := resp.Header.Get(wire.HeaderAuth)
		if text == "" {
			text = resp.Trailer.Get(wire.HeaderAuth)
		}
		mac, err := encoding.DecodeString(text)
		if err != nil || !equal(mac, p.signAnswer(st.keys.answer, resp.StatusCode, resp.Header, digest)) {
			o.state.CompareAndSwap(st, nil)
			return fmt.Errorf("%w (status %d)", ErrAnswer, resp.StatusCode)
		}
		c.hasProved(o.address)
		return nil
	}
	head := resp.Request != nil && resp.Request.Method == http.MethodHead
	if head || resp.ContentLength == 0 || resp.Body == nil || resp.Body == http.NoBody {
		if err := check(emptyDigest[:]); err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
		return resp, nil
	}
	resp.Body = newCheckedBody(resp.Body, resp.ContentLength, check)
	return resp, nil
}
