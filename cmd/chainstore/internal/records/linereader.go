package records

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// lineReader splits an input into the payloads of records. A line feed ends a line. It is not part of the payload, nor
// is a carriage return right before it. Empty lines are skipped. With keep the payload includes the line end, and no
// line is skipped. The last line needs no line feed.
type lineReader struct {
	in    *bufio.Reader
	limit int // size of the longest payload in bytes
	keep  bool

	long    []byte // a line longer than the buffer of in
	number  int64  // number of the last line read, from 1
	size    int64  // input bytes of the last record's line and of the empty lines before it
	skipped int64
}

const lineBuffer = 64 << 10

func newLineReader(in io.Reader, limit int, keep bool) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, lineBuffer), limit: limit, keep: keep}
}

// next returns the next payload, valid until the next call, or io.EOF. Other errors name the line.
func (r *lineReader) next() ([]byte, error) {
	r.size = 0
	for {
		line, err := r.read()
		if len(line) == 0 {
			return nil, err
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		r.size += int64(len(line))
		payload := line
		if !r.keep {
			var ended bool
			if payload, ended = bytes.CutSuffix(line, []byte("\n")); ended {
				payload = bytes.TrimSuffix(payload, []byte("\r"))
			}
		}
		if len(payload) > r.limit {
			return nil, r.tooLong()
		}
		if len(payload) > 0 {
			return payload, nil
		}
		r.skipped++
	}
}

// read reads one line with its end. The line is empty only at the end of the input. The last line may come with io.EOF.
func (r *lineReader) read() ([]byte, error) {
	r.number++
	part, err := r.in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return part, r.wrap(err)
	}
	r.long = r.long[:0]
	for {
		r.long = append(r.long, part...)
		if len(r.long) > r.limit+len("\r\n") {
			return r.long, r.tooLong()
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return r.long, r.wrap(err)
		}
		part, err = r.in.ReadSlice('\n')
	}
}

func (r *lineReader) wrap(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("read line %d: %w", r.number, err)
}

func (r *lineReader) tooLong() error {
	return fmt.Errorf("line %d has more than %d bytes, the limit for a record in a batch: append it alone, without "+
		"--lines", r.number, r.limit)
}

// stoppable is a reader whose reads end with a context. A read of a terminal or a pipe cannot be cancelled, so a
// goroutine does it. A read that blocks when the context ends keeps the goroutine until the read returns or the process
// exits.
type stoppable struct {
	ctx    context.Context
	chunks chan chunk
	rest   []byte
	err    error
}

type chunk struct {
	data []byte
	err  error
}

func newStoppable(ctx context.Context, r io.Reader) *stoppable {
	s := &stoppable{ctx: ctx, chunks: make(chan chunk)}
	go func() {
		// The receiver uses one buffer while the other is filled. It receives a chunk only after it has used the last
		// one.
		var buffers [2][lineBuffer]byte
		for i := 0; ; i = 1 - i {
			n, err := r.Read(buffers[i][:])
			select {
			case s.chunks <- chunk{buffers[i][:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *stoppable) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		select {
		case c := <-s.chunks:
			s.rest, s.err = c.data, c.err
		case <-s.ctx.Done():
			s.err = s.ctx.Err()
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
