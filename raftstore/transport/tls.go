package transport

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// TLS are the configurations of connections with TLS.
type TLS interface {
	RaftServer() *tls.Config            // the client must be a master
	RaftClient(host string) *tls.Config // the server must be a master on that host
}

// Mode is the step of the move to TLS.
type Mode interface {
	Step() wire.TLSStep
	TakesPlain() bool // another master may open a connection in plain text
	Confirmed() bool  // a leader has confirmed the step since this start
}

// unmoved is the mode of a group that is never moved to TLS.
type unmoved struct{ plain bool }

func (unmoved) Step() wire.TLSStep { return wire.TLSByFlags }
func (m unmoved) TakesPlain() bool { return m.plain }
func (unmoved) Confirmed() bool    { return true }

// exporterLabel is the label of the key that both sides of a TLS connection export (RFC 8446 section 7.5).
const exporterLabel = "EXPORTER-chainstore-raft"

// secureTime is how much longer a hello, or a probe, may take with TLS: one more round trip, and signatures on both
// sides.
const secureTime = 1500 * time.Millisecond

// withTLS adds TLS to a connection, whose handshake is still to be done. dialled is "" for one that the other side
// opened; while the step of TLS allows plain text, its first byte decides. secured says which way to dial.
func (s *Stream) withTLS(plain net.Conn, dialled string, secured bool) (net.Conn, error) {
	if s.cfg.TLS == nil {
		return plain, nil
	}
	if dialled == "" {
		if s.cfg.Mode.TakesPlain() {
			return &sniffed{Conn: plain}, nil
		}
		return tls.Server(plain, s.cfg.TLS.RaftServer()), nil
	}
	if !secured {
		return plain, nil
	}
	host, _, err := net.SplitHostPort(dialled)
	if err != nil {
		return nil, err
	}
	return tls.Client(plain, s.cfg.TLS.RaftClient(host)), nil
}

// secure does the handshake of TLS on a connection whose deadline is set. From then on the handshake of masters proves
// the cluster token with a key of this connection: one that is relayed between two connections with TLS fails.
func (c *conn) secure() error {
	if p, ok := c.Conn.(*sniffed); ok {
		if _, err := io.ReadFull(p.Conn, p.first[:]); err != nil {
			return fmt.Errorf("%w: %w", errHandshake, err)
		}
		p.held = true
		if p.first[0] == tlsRecord || !c.stream.cfg.Mode.TakesPlain() {
			c.Conn = tls.Server(p, c.stream.cfg.TLS.RaftServer())
		}
	}
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return c.stream.checkOpen(c)
	}
	if err := secured.Handshake(); err != nil {
		if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
			err = fmt.Errorf("%w: %w: start it with certificates (--tls-cert)", errNoTLS, err)
		}
		return fmt.Errorf("%w: TLS: %w", errHandshake, err)
	}
	c.stream.spokeTLS(c.dialled)
	state := secured.ConnectionState()
	exported, err := state.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
	if err != nil {
		return fmt.Errorf("%w: TLS: %w", errHandshake, err)
	}
	c.keys = make([]Key, len(c.from))
	for i, k := range c.from {
		m := hmac.New(sha256.New, k)
		m.Write(exported)
		c.keys[i] = m.Sum(nil)
	}
	return nil
}

// errNoTLS: the other side answered, and not with TLS.
var errNoTLS = errors.New("the other side does not speak TLS")

// isSecured reports whether a connection has TLS.
func (c *conn) isSecured() bool {
	_, ok := c.Conn.(*tls.Conn)
	return ok
}

// checkOpen refuses a connection that another master opened in plain text to this one without certificates, if it takes
// none now.
func (s *Stream) checkOpen(c *conn) error {
	if c.dialled != "" || s.cfg.TLS != nil || s.cfg.Mode.TakesPlain() {
		return nil
	}
	return fmt.Errorf("%w: this master has no certificates, and no leader has confirmed the step %s of TLS since its "+
		"start: start it with certificates (--tls-cert)", errHandshake, s.cfg.Mode.Step().Name())
}

// checkWay notes a connection that is in plain text, and refuses it if the step of TLS has changed meanwhile.
func (s *Stream) checkWay(c *conn) error {
	if s.cfg.TLS == nil || c.isSecured() {
		return nil
	}
	s.mu.Lock()
	c.inPlain = true // from now on ChangeTLS closes it
	s.mu.Unlock()
	if step := s.cfg.Mode.Step(); !step.Mixed() {
		return fmt.Errorf("%w: the connection is in plain text, and the step of TLS is %s", errHandshake, step.Name())
	}
	return nil
}

// waysTo returns in which ways an address is dialled, true for TLS, the first one first. In the step that prefers TLS
// an address that has spoken it is not dialled in plain text any more. A step that no leader has confirmed may be out
// of date, and the other master takes plain text no more.
func (s *Stream) waysTo(hostPort string) []bool {
	if s.cfg.TLS == nil {
		return []bool{false}
	}
	switch s.cfg.Mode.Step() {
	case wire.TLSAccept:
		if !s.cfg.Mode.Confirmed() {
			return []bool{true, false}
		}
		return []bool{false}
	case wire.TLSPrefer:
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.spoken[hostPort] {
			return []bool{true, false}
		}
	}
	return []bool{true}
}

// spokeTLS notes that an address speaks TLS, unless it is "".
func (s *Stream) spokeTLS(dialled string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dialled != "" {
		s.spoken[dialled] = true
	}
}

// ChangeTLS follows a change of the step of TLS: it closes the connections in plain text of a master with certificates,
// unless the step is the one that prefers plain text. Raft and the questions for terms open others.
func (s *Stream) ChangeTLS(step wire.TLSStep) {
	s.mu.Lock()
	clear(s.spoken)
	var closing []*conn
	for c := range s.conns {
		if s.cfg.TLS != nil && step != wire.TLSAccept && c.inPlain {
			closing = append(closing, c)
		}
	}
	s.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // raft may have closed it in between
	}
}

// sniffed is a connection of which this side has read the first byte.
type sniffed struct {
	net.Conn
	first [1]byte
	held  bool // first was not read from it yet; the goroutine of the handshake, and then that of the reader, uses it
}

// Read implements [net.Conn].
func (p *sniffed) Read(b []byte) (int, error) {
	if !p.held || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.held = false
	return copy(b, p.first[:]), nil
}

// answerTLS tells a caller that this master does not speak TLS: a closed connection alone would not say so, since
// anything may break one. It waits until the caller has read that, or for the deadline of the handshake.
func (c *conn) answerTLS() {
	if _, err := c.plain.Write([]byte("this master does not speak TLS\n")); err == nil {
		_, _ = io.CopyN(io.Discard, c.plain, maxClientHello)
	}
}

// maxClientHello bounds what is read of the hello of TLS of a caller that gets answerTLS.
const maxClientHello = 16 << 10

// extraTime is secureTime with TLS, and else 0.
func (s *Stream) extraTime() time.Duration {
	if s.cfg.TLS == nil {
		return 0
	}
	return secureTime
}
