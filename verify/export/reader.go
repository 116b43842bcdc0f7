package export

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/chainstore/chainstore/chain"
)

// Reader reads an export. It holds one block at a time, and never allocates more memory than it has read bytes.
type Reader struct {
	Group       Group
	Keys        []string // verifier keys of the log when it was written, not to be trusted
	Checkpoints []string // signed, in the order in which they were written

	r    *bufio.Reader
	buf  bytes.Buffer
	kind byte // of the part in buf
	// ahead: the part in buf is the end, or a block that was not returned yet.
	ahead bool
	end   End
}

// NewReader reads the parts before the blocks. Errors wrap [ErrFormat], or are those of r.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{r: bufio.NewReaderSize(from, 1<<20)}
	head := make([]byte, 8)
	if _, err := io.ReadFull(r.r, head); err != nil {
		return nil, cut(err)
	}
	switch {
	case string(head[:4]) != magic:
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrFormat, magic)
	case head[4] > version:
		return nil, fmt.Errorf("%w: version %d, this program knows %d", ErrNewerFormat, head[4], version)
	case head[4] != version || head[5] != 0 || head[6] != 0 || head[7] != 0:
		return nil, fmt.Errorf("%w: its first eight bytes are %x", ErrFormat, head)
	}
	if err := r.next(); err != nil {
		return nil, err
	}
	if r.kind != kindGroup {
		return nil, fmt.Errorf("%w: its first part is of kind %d, not the group", ErrFormat, r.kind)
	}
	var err error
	if r.Group, err = parseGroup(r.buf.Bytes()); err != nil {
		return nil, err
	}
	for {
		if err := r.next(); err != nil {
			return nil, err
		}
		switch r.kind {
		case kindKey:
			r.Keys = append(r.Keys, r.buf.String())
		case kindCheckpoint:
			r.Checkpoints = append(r.Checkpoints, r.buf.String())
		default:
			r.ahead = true
			return r, nil
		}
		if len(r.Keys) > maxTexts || len(r.Checkpoints) > maxTexts {
			return nil, fmt.Errorf("%w: more than %d keys or checkpoints", ErrFormat, maxTexts)
		}
	}
}

// Block returns the next block, whose bytes are valid until the next call. It returns [io.EOF] after the last one if
// the file is complete. Other errors wrap [ErrFormat], or are those of the underlying reader.
func (r *Reader) Block() (chain.Block, error) {
	if !r.ahead {
		if err := r.next(); err != nil {
			return chain.Block{}, err
		}
	}
	if r.ahead = r.kind == kindEnd; r.ahead {
		return chain.Block{}, io.EOF
	}
	b, err := chain.ParseBlock(r.buf.Bytes())
	if err != nil {
		return chain.Block{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return b, nil
}

// End returns the end part of the file, which is known once [Reader.Block] has returned io.EOF.
func (r *Reader) End() End { return r.end }

// next reads a part into buf, and checks that it may follow the one before. After the end part it checks that nothing
// follows.
func (r *Reader) next() error {
	var head [5]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return cut(err)
	}
	kind, length := head[0], uint64(binary.BigEndian.Uint32(head[1:]))
	if err := checkLength(kind, length); err != nil {
		return err
	}
	r.buf.Reset()
	if _, err := io.CopyN(&r.buf, r.r, int64(length)); err != nil {
		return cut(err)
	}
	var sum [4]byte
	if _, err := io.ReadFull(r.r, sum[:]); err != nil {
		return cut(err)
	}
	if crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, r.buf.Bytes()) != binary.BigEndian.Uint32(sum[:]) {
		return fmt.Errorf("%w: the checksum of a part of kind %d with %d bytes does not fit", ErrFormat, kind, length)
	}
	if kind < r.kind || kind == kindGroup && r.kind == kindGroup {
		return fmt.Errorf("%w: a part of kind %d behind one of kind %d", ErrFormat, kind, r.kind)
	}
	r.kind = kind
	if kind != kindEnd {
		return nil
	}
	var err error
	if r.end, err = parseEnd(r.buf.Bytes()); err != nil {
		return err
	}
	if _, err := r.r.ReadByte(); err == nil {
		return fmt.Errorf("%w: there is more behind its end", ErrFormat)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// cut returns the error of a file that ends too early.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends before its end part: it was cut short, or the length of a part is damaged",
			ErrFormat)
	}
	return err
}
