package links

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

const maxRecord = 64 << 10

// sealed is a connection whose bytes go in records: length u32 ‖ AES-128-GCM of up to 64 KiB. The nonces are counters.
// The keys are constants: what is measured is their use.
type sealed struct {
	net.Conn
	r       *bufio.Reader
	in, out cipher.AEAD

	// Of the goroutine that reads.
	opened         uint64
	record, unread []byte

	mu    sync.Mutex // guards the fields below
	count uint64
	wrote []byte
}

func seal(c net.Conn, caller bool) *sealed {
	s := &sealed{Conn: c, r: bufio.NewReaderSize(c, 64<<10), in: aead(1), out: aead(2)}
	if caller {
		s.in, s.out = s.out, s.in
	}
	return s
}

func aead(key byte) cipher.AEAD {
	block, err := aes.NewCipher(append(make([]byte, 15), key))
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

func nonce(count uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), count) }

// Write implements [net.Conn]. It writes all records at once.
func (s *sealed) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote = s.wrote[:0]
	for rest := p; len(rest) > 0; s.count++ {
		part := rest[:min(len(rest), maxRecord)]
		rest = rest[len(part):]
		head := len(s.wrote)
		s.wrote = binary.BigEndian.AppendUint32(s.wrote, uint32(len(part)))
		s.wrote = s.out.Seal(s.wrote, nonce(s.count), part, s.wrote[head:head+4])
	}
	if _, err := s.Conn.Write(s.wrote); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read implements [net.Conn].
func (s *sealed) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		var head [4]byte
		if _, err := io.ReadFull(s.r, head[:]); err != nil {
			return 0, err
		}
		size := int(binary.BigEndian.Uint32(head[:]))
		if size > maxRecord {
			return 0, fmt.Errorf("a record of %d bytes", size)
		}
		if s.record == nil {
			s.record = make([]byte, maxRecord+s.in.Overhead())
		}
		record := s.record[:size+s.in.Overhead()]
		if _, err := io.ReadFull(s.r, record); err != nil {
			return 0, err
		}
		var err error
		if s.unread, err = s.in.Open(record[:0], nonce(s.opened), record, head[:]); err != nil {
			return 0, err
		}
		s.opened++
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

// sealedListener seals the connections that it accepts.
type sealedListener struct{ net.Listener }

// Accept implements [net.Listener].
func (l sealedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return seal(c, false), nil
}
