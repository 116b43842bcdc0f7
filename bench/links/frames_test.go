package links

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// framed is one side of a connection of numbered frames: call u64 ‖ length u32 of the message ‖ size u32 ‖ a piece of
// the message. Frames that are queued during a write go into the next one. It is the least that a link needs: it has
// neither deadlines nor flow control.
type framed struct {
	conn *sealed

	mu      sync.Mutex // guards the fields below
	room    *sync.Cond // of the queue
	queue   []byte
	writing bool
	last    uint64
	waiting map[uint64]chan []byte
}

const (
	pieceSize = 32 << 10
	longQueue = 64 << 10 // behind which the next piece waits
)

func newFramed(c *sealed) *framed {
	f := &framed{conn: c, waiting: map[uint64]chan []byte{}}
	f.room = sync.NewCond(&f.mu)
	return f
}

func frames(t testing.TB, l net.Listener) caller {
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		f := newFramed(seal(c, false))
		f.read(func(call uint64, request []byte) {
			go f.send(call, make([]byte, answerSize(len(request))))
		})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := newFramed(seal(c, true))
	go f.read(func(call uint64, answer []byte) {
		f.mu.Lock()
		waits := f.waiting[call]
		delete(f.waiting, call)
		f.mu.Unlock()
		waits <- answer
	})
	t.Cleanup(func() {
		c.Close()
		l.Close()
		<-served
	})
	return f
}

func (f *framed) call(ctx context.Context, request []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	f.mu.Lock()
	f.last++
	call := f.last
	f.waiting[call] = answer
	f.mu.Unlock()
	f.send(call, request)
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send queues a message.
func (f *framed) send(call uint64, message []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for rest := message; len(rest) > 0; {
		for len(rest) < len(message) && len(f.queue) > longQueue {
			f.room.Wait()
		}
		piece := rest[:min(len(rest), pieceSize)]
		rest = rest[len(piece):]
		f.queue = binary.BigEndian.AppendUint64(f.queue, call)
		f.queue = binary.BigEndian.AppendUint32(f.queue, uint32(len(message)))
		f.queue = append(binary.BigEndian.AppendUint32(f.queue, uint32(len(piece))), piece...)
		if !f.writing {
			f.writing = true
			go f.write()
		}
	}
}

// write writes the queue until it is empty.
func (f *framed) write() {
	var written []byte
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) > 0 {
		written, f.queue = f.queue, written[:0]
		f.room.Broadcast()
		f.mu.Unlock()
		_, err := f.conn.Write(written)
		f.mu.Lock()
		if err != nil {
			return // the connection was closed
		}
	}
	f.writing = false
}

// read passes each message to take until the connection ends.
func (f *framed) read(take func(call uint64, message []byte)) {
	parts := map[uint64][]byte{}
	for {
		var head [16]byte
		if _, err := io.ReadFull(f.conn, head[:]); err != nil {
			return
		}
		call, length := binary.BigEndian.Uint64(head[:]), int(binary.BigEndian.Uint32(head[8:]))
		message := parts[call]
		if message == nil {
			message = make([]byte, 0, length)
		}
		end := len(message) + int(binary.BigEndian.Uint32(head[12:]))
		if end > length {
			return
		}
		if _, err := io.ReadFull(f.conn, message[len(message):end]); err != nil {
			return
		}
		if message = message[:end]; end < length {
			parts[call] = message
			continue
		}
		delete(parts, call)
		take(call, message)
	}
}
