package nodeauth

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Accepted is what a receiver accepts for a purpose.
type Accepted struct {
	Secret *Secret
	Bound  string // the master token of a worker, else ""
}

// Bounds of the sessions of a receiver.
const (
	maxSessions = 4096
	// maxOfProcess is how many sessions one process of a caller has. It needs one for each purpose and node.
	maxOfProcess = 16
	maxName      = 128
)

// ErrNoSession is the refusal of a request whose session, or counter, cannot be used. The caller opens another session,
// and sends the request again.
var ErrNoSession = fmt.Errorf("%w: this process does not know the session, or has seen the request",
	wire.ErrUnauthorized)

// ErrProof is the refusal of a request whose MAC, or body, is not the one that was signed.
var ErrProof = fmt.Errorf("%w: the request was changed on its way: its MAC does not fit", wire.ErrUnauthorized)

// Receiver verifies requests, and signs the answers to them. It may be used by many goroutines.
type Receiver struct {
	self   Process
	tagKey key // of challenges
	began  time.Time
	accept map[string]Accepted

	mu       sync.RWMutex // guards sessions
	sessions map[[sessionSize]byte]*received
}

// received is a session at its receiver.
type received struct {
	purpose string
	name    string          // of the caller, as it says
	process Process         // of the caller
	nonce   [nonceSize]byte // of the challenge
	peer    string          // the caller's certificate, "" without TLS
	secret  *Secret         // whose token opened the session
	base    [macSize]byte   // of that token
	keys    sessionKeys
	window  window

	mu   sync.Mutex // guards used
	used time.Time
}

// NewReceiver returns the receiver of a process, which accepts sessions for the purposes in accept.
func NewReceiver(self Process, accept map[string]Accepted) *Receiver {
	r := &Receiver{self: self, began: time.Now(), accept: accept, sessions: map[[sessionSize]byte]*received{}}
	r.tagKey = key(fresh())
	return r
}

// Open answers a request that opens a session. peer names the caller's certificate, "" without TLS.
// Errors: wire.ErrBadRequest, wire.ErrUnauthorized.
func (r *Receiver) Open(body io.Reader, peer string) ([]byte, error) {
	message, err := io.ReadAll(io.LimitReader(body, maxMessage+1))
	if err != nil || len(message) > maxMessage {
		return nil, fmt.Errorf("%w: %w", wire.ErrBadRequest, errMessage)
	}
	h, step, rest, err := parseHello(message)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
	case h.caller == r.self:
		return nil, fmt.Errorf("%w: the caller is this process itself", wire.ErrBadRequest)
	case step == stepHello && len(rest) == 0:
		return r.challenge(message), nil
	case step == stepOpen:
		return r.open(h, message, rest, peer)
	}
	return nil, fmt.Errorf("%w: %w", wire.ErrBadRequest, errMessage)
}

// challenge answers a hello.
func (r *Receiver) challenge(message []byte) []byte {
	nonce := fresh()
	out := append(append(make([]byte, 0, challengeSize), r.self[:]...), nonce[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(time.Since(r.began)))
	tag := r.tagKey.mac(labelTag, message, out)
	return append(out, tag[:tagSize]...)
}

// checkChallenge reports whether a challenge is one of this process to that hello, and new enough.
func (r *Receiver) checkChallenge(h hello, challenge []byte) bool {
	said, tag := challenge[:challengeSize-tagSize], challenge[challengeSize-tagSize:]
	want := r.tagKey.mac(labelTag, h.encode(stepHello), said)
	age := time.Since(r.began) - time.Duration(binary.BigEndian.Uint64(said[processSize+nonceSize:]))
	return equal(tag, want[:tagSize]) && age < challengeTime
}

// open answers the message with which a caller proves the secret.
func (r *Receiver) open(h hello, message, rest []byte, peer string) ([]byte, error) {
	if len(rest) < challengeSize+1 || len(rest) != challengeSize+1+int(rest[challengeSize])+macSize {
		return nil, fmt.Errorf("%w: %w", wire.ErrBadRequest, errMessage)
	}
	challenge, name := rest[:challengeSize], rest[challengeSize+1:len(rest)-macSize]
	if !r.checkChallenge(h, challenge) {
		return nil, fmt.Errorf("%w: the challenge is of another process, or too old", ErrNoSession)
	}
	accepted := r.accept[h.purpose]
	signed, mac := message[:len(message)-macSize], message[len(message)-macSize:]
	for _, t := range accepted.Secret.list() {
		k := keyOf(t.base, h.purpose, accepted.Bound)
		if want := k.mac(labelOpen, signed); equal(mac, want[:]) {
			s := &received{
				purpose: h.purpose, name: cleanName(name), process: h.caller, peer: peer,
				secret: accepted.Secret, base: t.base, used: time.Now(),
			}
			copy(s.nonce[:], challenge[processSize:])
			return r.add(s, k, message)
		}
	}
	return nil, fmt.Errorf("%w: this node has another token than the caller for %q, or none", wire.ErrUnauthorized,
		h.purpose)
}

// cleanName is a caller's name with printable characters only: it comes from the wire.
func cleanName(name []byte) string {
	name = bytes.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return '_'
		}
		return c
	}, name)
	return string(name[:min(len(name), maxName)])
}

// add adds a session and answers with its name.
func (r *Receiver) add(s *received, k key, message []byte) ([]byte, error) {
	random := fresh()
	session := [sessionSize]byte(random[:])
	s.keys = keysOf(k, message, session)
	r.mu.Lock()
	defer r.mu.Unlock()
	var same [][sessionSize]byte
	for id, other := range r.sessions {
		if other.process != s.process {
			continue
		}
		if other.nonce == s.nonce {
			return nil, fmt.Errorf("%w: the challenge was answered before", ErrNoSession)
		}
		same = append(same, id)
	}
	if len(same) >= maxOfProcess {
		r.dropOldest(slices.Values(same))
	}
	if len(r.sessions) >= maxSessions {
		r.dropOldest(maps.Keys(r.sessions))
	}
	r.sessions[session] = s
	mac := k.mac(labelOpened, message, session[:])
	return append(session[:], mac[:]...), nil
}

// dropOldest ends the session that was not used for longest. The caller holds mu.
func (r *Receiver) dropOldest(ids func(yield func([sessionSize]byte) bool)) {
	oldest := slices.MinFunc(slices.Collect(ids), func(a, b [sessionSize]byte) int {
		return cmp.Compare(r.sessions[a].lastUsed().UnixNano(), r.sessions[b].lastUsed().UnixNano())
	})
	delete(r.sessions, oldest)
}

func (s *received) lastUsed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Proof is what a request proves about its caller, and signs the answer.
type Proof struct {
	Purpose string
	Name    string // of the caller, as it says
	proof   proof
	session *received
}

// Check verifies the header of a request. streamed says whether the request may leave its body uncovered. The returned
// reader is the body; it fails with [ErrProof] where the body is not the signed one. Headers that the MAC does not
// cover are deleted from a good request, so that no handler reads them. Errors: [ErrNoSession], [ErrProof],
// wire.ErrBadRequest.
func (r *Receiver) Check(request *http.Request, peer string, streamed bool) (*Proof, io.ReadCloser, error) {
	p, err := parseProof(request.Header.Get(wire.HeaderAuth))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: header %s: %w", wire.ErrBadRequest, wire.HeaderAuth, err)
	}
	r.mu.RLock()
	s := r.sessions[p.session]
	r.mu.RUnlock()
	if s == nil || s.peer != peer {
		return nil, nil, ErrNoSession
	}
	if s.secret.position(s.base) < 0 {
		r.mu.Lock()
		delete(r.sessions, p.session)
		r.mu.Unlock()
		return nil, nil, ErrNoSession
	}
	want := p.sign(s.keys.request, request.Method, request.RequestURI, request.Header)
	if !equal(want[:], p.mac[:]) {
		return nil, nil, ErrProof
	}
	body := request.Body
	switch none := body == nil || body == http.NoBody; {
	case !p.covered && !streamed:
		return nil, nil, fmt.Errorf("%w: the MAC must cover the body", ErrProof)
	case p.covered && none && p.digest != emptyDigest:
		return nil, nil, ErrProof
	case p.covered && !none:
		body = newCheckedBody(body, request.ContentLength, func(digest []byte) error {
			if !equal(digest, p.digest[:]) {
				return ErrProof
			}
			return nil
		})
	}
	s.mu.Lock()
	s.used = time.Now()
	isNew := s.window.take(p.counter)
	s.mu.Unlock()
	if !isNew {
		return nil, nil, ErrNoSession
	}
	deleteUncovered(request.Header)
	return &Proof{Purpose: s.purpose, Name: s.name, proof: p, session: s}, body, nil
}

// deleteUncovered deletes what a MAC does not cover from the headers of a request, except [connectionHeaders]. The MAC
// covers the first value of a header.
func deleteUncovered(h http.Header) {
	for name, values := range h {
		switch {
		case slices.Contains(requestHeaders, name):
			h[name] = values[:min(1, len(values))]
		case !slices.Contains(connectionHeaders, name):
			delete(h, name)
		}
	}
}

// Body returns the digest of the request's body. It is that of the body if this was read without an error.
func (p *Proof) Body() [digestSize]byte { return p.proof.digest }

// Answer returns the header for an answer whose body has that digest.
func (p *Proof) Answer(status int, h http.Header, digest []byte) string {
	return encoding.EncodeToString(p.proof.signAnswer(p.session.keys.answer, status, h, digest))
}

// windowSize is how far a request may be behind the newest one of its session.
const windowSize = 1 << 15

// window has the counters that a session has seen. Each is taken once.
type window struct {
	next uint64 // one more than the highest
	seen [windowSize / 64]uint64
}

// take reports whether a counter is new, and remembers it. One that is too old counts as seen.
func (w *window) take(counter uint64) bool {
	if counter >= 1<<63 || counter+windowSize < w.next {
		return false
	}
	if counter >= w.next {
		if counter-w.next >= windowSize {
			clear(w.seen[:])
		} else {
			for c := w.next; c <= counter; c++ {
				w.seen[c%windowSize/64] &^= 1 << (c % 64)
			}
		}
		w.next = counter + 1
	}
	cell, bit := &w.seen[counter%windowSize/64], uint64(1)<<(counter%64)
	if *cell&bit != 0 {
		return false
	}
	*cell |= bit
	return true
}
