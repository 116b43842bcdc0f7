package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/chainstore/chainstore/internal/durable"
)

// Frames iterates over the frames of a file, from an offset on. It belongs to one goroutine.
type Frames struct {
	file   io.ReaderAt
	size   int64 // of the file
	offset int64 // of the next frame
	small  [FrameHeader]byte
	buf    []byte
}

// Frame is a frame as it is in a file.
type Frame struct {
	Offset int64  // of the frame's first byte
	Block  []byte // nil if Err is not; valid until the next call of Next
	Length uint32 // of the content: that of the block, or of the encrypted block
	Err    error  // wraps durable.ErrDamaged: the bytes do not fit the checksum; the next frame may be good
}

// NewFrames returns the frames of a file of that size, from an offset on.
func NewFrames(file io.ReaderAt, offset, size int64) *Frames {
	return &Frames{file: file, offset: offset, size: size}
}

// Next reads the next frame. The error is io.EOF if the file ends after a whole frame. It wraps [durable.ErrDamaged] if
// the bytes from [Frames.Offset] on cannot hold a frame: a torn tail, or damage after which the next frame cannot be
// found. Any other error is the disk's.
func (f *Frames) Next() (Frame, error) {
	left := f.size - f.offset
	if left <= 0 {
		return Frame{}, io.EOF
	}
	if left < FrameHeader {
		return Frame{}, fmt.Errorf("%w: %d bytes at offset %d are too few for a frame",
			durable.ErrDamaged, left, f.offset)
	}
	if _, err := f.file.ReadAt(f.small[:], f.offset); err != nil {
		return Frame{}, err
	}
	length := binary.BigEndian.Uint32(f.small[:])
	if length < minBlock || int64(length) > left-FrameHeader {
		return Frame{}, fmt.Errorf("%w: a frame of %d bytes does not fit at offset %d, %d are left",
			durable.ErrDamaged, length, f.offset, left)
	}
	frame := Frame{Offset: f.offset, Length: length}
	var err error
	f.buf, err = ReadFrame(f.buf, f.file, f.offset, length)
	switch {
	case err == nil:
		frame.Block = f.buf[FrameHeader:]
	case errors.Is(err, durable.ErrDamaged):
		frame.Err = err
	default:
		return Frame{}, err
	}
	f.offset += FrameHeader + int64(length)
	return frame, nil
}

// Offset returns the offset of the next frame.
func (f *Frames) Offset() int64 { return f.offset }

// ReadFrame reads the frame at an offset, whose content has length bytes, into buf, which grows if it must. It returns
// the frame, with the block in clear if the file decrypts, and in any case the memory, to be used again. The error
// wraps [durable.ErrDamaged] if no frame of that length is there, the checksum does not fit, or the block does not
// decrypt.
func ReadFrame(buf []byte, file io.ReaderAt, offset int64, length uint32) ([]byte, error) {
	size := FrameHeader + int(length)
	frame := slices.Grow(buf[:0], size)[:size]
	if _, err := file.ReadAt(frame, offset); err != nil {
		if err == io.EOF {
			return frame, fmt.Errorf("%w: the file ends within the frame at offset %d", durable.ErrDamaged, offset)
		}
		return frame, err
	}
	content := frame[FrameHeader:]
	if got := binary.BigEndian.Uint32(frame); got != length {
		return frame, fmt.Errorf("%w: the frame at offset %d has length %d, not %d",
			durable.ErrDamaged, offset, got, length)
	}
	if durable.Checksum(content) != binary.BigEndian.Uint32(frame[4:]) {
		return frame, fmt.Errorf("%w: the frame of %d bytes at offset %d has the wrong checksum",
			durable.ErrDamaged, length, offset)
	}
	block, err := OpenContent(file, content, offset)
	if err != nil {
		return frame, err
	}
	return frame[:FrameHeader+len(block)], nil
}

// AppendFrame appends the frame of a block to dst.
func AppendFrame(dst, block []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
	dst = binary.BigEndian.AppendUint32(dst, durable.Checksum(block))
	return append(dst, block...)
}

// AppendFrameTo is [AppendFrame] for the frame at an offset of an open segment, which may be encrypted.
func AppendFrameTo(dst []byte, file io.ReaderAt, offset int64, block []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, FrameHeader)...)
	dst = sealBlock(dst, keyOf(file), block, offset)
	content := dst[start+FrameHeader:]
	binary.BigEndian.PutUint32(dst[start:], uint32(len(content)))
	binary.BigEndian.PutUint32(dst[start+4:], durable.Checksum(content))
	return dst
}

// OpenFrame returns the block in a frame that was read from an offset of an open segment, in the frame's memory. The
// error wraps [durable.ErrDamaged].
func OpenFrame(file io.ReaderAt, frame []byte, offset int64) ([]byte, error) {
	content := frame[FrameHeader:]
	if durable.Checksum(content) != binary.BigEndian.Uint32(frame[4:]) {
		return nil, fmt.Errorf("%w: the frame at offset %d has the wrong checksum", durable.ErrDamaged, offset)
	}
	return OpenContent(file, content, offset)
}

// SetLength restores the length in a frame where it was damaged. The checksum stays as it is.
func SetLength(frame []byte, length uint32) { binary.BigEndian.PutUint32(frame, length) }
