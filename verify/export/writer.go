package export

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/chainstore/chainstore/chain"
)

// Writer writes an export. It cannot be used after an error.
type Writer struct {
	w *bufio.Writer
}

// NewWriter writes the parts before the blocks.
func NewWriter(to io.Writer, group Group, keys, checkpoints []string) (*Writer, error) {
	w := &Writer{w: bufio.NewWriterSize(to, 1<<20)}
	_, _ = w.w.Write([]byte{magic[0], magic[1], magic[2], magic[3], version, 0, 0, 0}) // see part
	if err := w.part(kindGroup, group.appendTo(nil)); err != nil {
		return nil, err
	}
	for kind, texts := range [][]string{kindKey: keys, kindCheckpoint: checkpoints} {
		if len(texts) > maxTexts {
			return nil, fmt.Errorf("%d keys or checkpoints are more than an export holds: %d", len(texts), maxTexts)
		}
		for _, text := range texts {
			if err := w.part(byte(kind), []byte(text)); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

// Block writes the next block, which must extend the chain.
func (w *Writer) Block(b *chain.Block) error { return w.part(kindBlock, b.Bytes()) }

// End writes the end part for the head after the last block.
func (w *Writer) End(head chain.Head) error {
	if err := w.part(kindEnd, EndOf(head).appendTo(nil)); err != nil {
		return err
	}
	return w.w.Flush()
}

func (w *Writer) part(kind byte, data []byte) error {
	if err := checkLength(kind, uint64(len(data))); err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, data)
	_, _ = w.w.Write(head) // a bufio.Writer keeps its first error
	_, _ = w.w.Write(data)
	_, err := w.w.Write(binary.BigEndian.AppendUint32(nil, sum))
	return err
}

// checkLength compares a part's length with its bound.
func checkLength(kind byte, length uint64) error {
	limit, known := limits[kind]
	if !known {
		return fmt.Errorf("%w: a part of kind %d, which is not known", ErrFormat, kind)
	}
	if length > limit {
		return fmt.Errorf("%w: a part of kind %d has %d bytes, the limit is %d", ErrFormat, kind, length, limit)
	}
	return nil
}
