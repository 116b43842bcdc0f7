package links

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/hashicorp/yamux"
)

// yamuxCalls makes calls over streams of one session. A message is length u32 ‖ bytes.
type yamuxCalls struct {
	session *yamux.Session
	keep    bool
	idle    chan net.Conn // streams to be used again
}

func yamuxStreams(t testing.TB, l net.Listener) caller { return overYamux(t, l, false) }
func yamuxPooled(t testing.TB, l net.Listener) caller  { return overYamux(t, l, true) }

func overYamux(t testing.TB, l net.Listener, keep bool) caller {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput, cfg.MaxStreamWindowSize = io.Discard, 1<<20
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		session, err := yamux.Server(seal(c, false), cfg)
		if err != nil {
			t.Error(err)
			return
		}
		defer session.Close()
		for {
			stream, err := session.Accept()
			if err != nil {
				return
			}
			go serveStream(stream)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	session, err := yamux.Client(seal(c, true), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		l.Close()
		<-served
	})
	return &yamuxCalls{session: session, keep: keep, idle: make(chan net.Conn, 64)}
}

// serveStream answers the calls of a stream until it ends.
func serveStream(stream net.Conn) {
	defer stream.Close()
	for {
		request, err := receive(stream)
		if err != nil {
			return
		}
		if err := send(stream, make([]byte, answerSize(len(request)))); err != nil {
			return
		}
	}
}

func (y *yamuxCalls) call(ctx context.Context, request []byte) ([]byte, error) {
	var stream net.Conn
	select {
	case stream = <-y.idle:
	default:
		var err error
		if stream, err = y.session.Open(); err != nil {
			return nil, err
		}
	}
	deadline, _ := ctx.Deadline()
	err := stream.SetDeadline(deadline)
	if err == nil {
		err = send(stream, request)
	}
	var answer []byte
	if err == nil {
		answer, err = receive(stream)
	}
	if err == nil && y.keep {
		select {
		case y.idle <- stream:
			return answer, nil
		default:
		}
	}
	stream.Close()
	return answer, err
}

// send sends a message, a small one in one write.
func send(w io.Writer, message []byte) error {
	head := binary.BigEndian.AppendUint32(make([]byte, 0, 4+min(len(message), 16<<10)), uint32(len(message)))
	if len(message) <= 16<<10 {
		head, message = append(head, message...), nil
	}
	if _, err := w.Write(head); err != nil || len(message) == 0 {
		return err
	}
	_, err := w.Write(message)
	return err
}

func receive(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}
