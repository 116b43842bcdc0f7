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
	in    *bufio.Reader // its buffer has room for the longest line
	limit int           // size of the longest payload in bytes
	keep  bool

	number  int64 // number of the last line read, from 1
	size    int64 // input bytes of the last record's line and of the empty lines before it
	skipped int64
}

func newLineReader(in io.Reader, limit int, keep bool) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, limit+len("\r\n")), limit: limit, keep: keep}
}

// next returns the next payload, valid until the next call, or io.EOF. Other errors name the line.
func (r *lineReader) next() ([]byte, error) {
	r.size = 0
	for {
		r.number++
		payload, err := r.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, r.tooLong()
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read line %d: %w", r.number, err)
		case len(payload) == 0:
			return nil, io.EOF
		}
		r.size += int64(len(payload))
		if line, ended := bytes.CutSuffix(payload, []byte("\n")); ended && !r.keep {
			payload = bytes.TrimSuffix(line, []byte("\r"))
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

func (r *lineReader) tooLong() error {
	return fmt.Errorf("line %d has more than %d bytes, the limit for a record in a batch: append it alone, without "+
		"--lines", r.number, r.limit)
}

// newStoppable returns a reader of r whose reads end with a context. A read of a terminal or a pipe cannot be
// cancelled, so a goroutine does it. A read of r that blocks when the context ends keeps the goroutine until it returns
// or the process exits.
func newStoppable(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	context.AfterFunc(ctx, func() { _ = in.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(in, r)
		_ = in.CloseWithError(err) // keeps an earlier error
	}()
	return out
}
