package nodeauth

import (
	"bytes"
	"context"
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

	mu       sync.Mutex // guards sessions
	sessions map[sessionName]*opened
}

// sessionName names a session of a caller.
type sessionName struct {
	base           string // of the URL
	secret         *Secret
	purpose, bound string
}

// opened is a session of a caller, which may not be open yet.
type opened struct {
	opening chan struct{} // holds a value while no session is being opened

	state   atomic.Pointer[state] // nil while there is none
	used    atomic.Int64          // unix nanoseconds
	counter atomic.Uint64         // of requests, in all sessions of the name
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
	return &Caller{self: self, send: send, name: name, older: older, sessions: map[sessionName]*opened{}}
}

// Do sends a request with a proof. The answer's body fails with [ErrAnswer] at its end if it is not the one that the
// other node signed, together with the status and header. The body of a request must have GetBody to be covered. A
// request is sent again, once, if the other side does not know the session.
func (c *Caller) Do(r *http.Request, cred Credential, send Send) (*http.Response, error) {
	base := r.URL.Scheme + "://" + r.URL.Host
	o := c.of(sessionName{base, cred.Secret, cred.Purpose, cred.Bound})
	again := r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
	if !again {
		o.state.Store(nil) // it cannot be sent again, so its session must not be one that the other side has lost
	}
	for try := 0; ; try++ {
		st, refused, err := c.state(r.Context(), o, base, cred)
		switch {
		case err != nil || refused != nil:
			if r.Body != nil {
				_ = r.Body.Close() // as a transport does
			}
			return refused, err
		case !st.older.IsZero():
			return send(asBearer(r, cred))
		}
		signed, p, err := c.sign(r, o, st)
		if err != nil {
			return nil, err // of the body, which is closed
		}
		resp, err := send(signed)
		if err != nil {
			return nil, err
		}
		said := ""
		if resp.StatusCode == http.StatusUnauthorized {
			said = resp.Header.Get(wire.HeaderAuth)
		}
		switch said {
		case NewSession:
			o.state.CompareAndSwap(st, nil)
			if try == 0 && again {
				_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
				_ = resp.Body.Close()
				continue
			}
			return resp, nil
		case Refused:
			return resp, nil
		}
		return verified(resp, p, st)
	}
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
		o = &opened{opening: make(chan struct{}, 1)}
		o.opening <- struct{}{}
		c.sessions[name] = o
	}
	o.used.Store(time.Now().UnixNano())
	return o
}

// usable reports whether a session can be used for a call.
func (c *Caller) usable(st *state, s *Secret) bool {
	if st == nil {
		return false
	}
	if !st.older.IsZero() {
		return time.Since(st.older) < olderTime && c.older != nil && c.older()
	}
	return s.position(st.base) >= 0
}

// state returns an open session, or else the refusal of it as the answer to the call.
func (c *Caller) state(
	ctx context.Context, o *opened, base string, cred Credential,
) (st *state, refused *http.Response, err error) {
	if st := o.state.Load(); c.usable(st, cred.Secret) {
		return st, nil, nil
	}
	select {
	case <-o.opening:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	defer func() { o.opening <- struct{}{} }()
	if st := o.state.Load(); c.usable(st, cred.Secret) {
		return st, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	tokens := cred.Secret.list()
	if len(tokens) == 0 {
		return nil, nil, fmt.Errorf("%w: this node has no secret for %s", wire.ErrUnauthorized, cred.Purpose)
	}
	for _, t := range tokens {
		st, refused, err = c.open(ctx, base, cred, t)
		if err != nil {
			return nil, nil, err
		}
		if st != nil {
			o.state.Store(st)
			return st, nil, nil
		}
	}
	return nil, refused, nil
}

// open opens a session with one token. It returns the answer of a node that has another secret.
func (c *Caller) open(
	ctx context.Context, base string, cred Credential, t token,
) (*state, *http.Response, error) {
	h := hello{purpose: cred.Purpose, caller: c.self, nonce: fresh()}
	challenge, resp, err := c.post(ctx, base, h.encode(stepHello))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, resp, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		if c.older != nil && c.older() {
			return &state{older: time.Now()}, nil, nil
		}
		return nil, nil, ErrUnsigned
	case resp.StatusCode != http.StatusOK || len(challenge) != challengeSize:
		return nil, nil, fmt.Errorf("%w: open a session: status %d", ErrAnswer, resp.StatusCode)
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
	switch {
	case err != nil:
		return nil, nil, err
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, resp, nil
	case resp.StatusCode != http.StatusOK || len(answer) != openedSize:
		return nil, nil, fmt.Errorf("%w: open a session: status %d", ErrAnswer, resp.StatusCode)
	}
	st := &state{session: [sessionSize]byte(answer), base: t.base}
	if want := k.mac(labelOpened, message, st.session[:]); !equal(want[:], answer[sessionSize:]) {
		return nil, nil, fmt.Errorf("%w: open a session: it does not prove the secret", ErrAnswer)
	}
	st.keys = keysOf(k, message, st.session)
	return st, nil, nil
}

// post sends a message that opens a session. The answer's body is read, and can be read again.
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
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return body, resp, nil
}

// maxAnswer bounds the answer to a message that opens a session, which may be a problem.
const maxAnswer = 16 << 10

// asBearer returns a request to a node that knows no sessions.
func asBearer(r *http.Request, cred Credential) *http.Request {
	if len(r.Header["Authorization"]) > 0 {
		return r
	}
	r = r.Clone(r.Context())
	bearer := cred.Secret.First()
	if cred.Purpose == Orders {
		bearer = cred.Bound
	}
	r.Header["Authorization"] = []string{"Bearer " + bearer}
	return r
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
// verified at once.
func verified(resp *http.Response, p *proof, st *state) (*http.Response, error) {
	check := func(digest []byte) error {
		text := resp.Header.Get(wire.HeaderAuth)
		if text == "" {
			text = resp.Trailer.Get(wire.HeaderAuth)
		}
		mac, err := encoding.DecodeString(text)
		if err != nil || !equal(mac, p.signAnswer(st.keys.answer, resp.StatusCode, resp.Header, digest)) {
			return fmt.Errorf("%w (status %d)", ErrAnswer, resp.StatusCode)
		}
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
