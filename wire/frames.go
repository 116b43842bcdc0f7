package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/chainstore/chainstore/chain"
)

// Limits of a batch. Over one of them the whole batch is refused.
const (
	MaxBatchRecords = 10_000
	MaxBatchBytes   = 4 << 20 // of the request's body
)

// FrameOverhead is the size of a frame's fixed part, in bytes.
const FrameOverhead = 1 + 1 + 4

// AppendFrame adds one record of a batch of [TypeFrames] to dst. A batch is a sequence of frames, big endian:
//
//	key length u8 ‖ type length u8 ‖ payload length u32 ‖ key ‖ type ‖ payload
//
// The parts must be within the limits that [chain.Record.Check] names.
func AppendFrame(dst []byte, key, typ string, payload []byte) []byte {
	dst = append(dst, byte(len(key)), byte(len(typ)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = append(dst, key...)
	dst = append(dst, typ...)
	return append(dst, payload...)
}

// ParseFrames calls each with the parts of every frame of data, in order. The parts point into data. It checks lengths
// only; each decides about empty payloads, bytes that are not UTF-8, and the number of records. An error of each ends
// it and is returned unchanged. Its own error wraps [ErrMalformed] and may come after correct frames, so nothing may
// be done with those before ParseFrames returns nil.
func ParseFrames(data []byte, each func(key, typ, payload []byte) error) error {
	for i := 0; len(data) > 0; i++ {
		if len(data) < FrameOverhead {
			return fmt.Errorf("%w: frame %d is cut short: %d bytes are left, its lengths alone take %d",
				ErrMalformed, i, len(data), FrameOverhead)
		}
		key, typ, payload := int(data[0]), int(data[1]), binary.BigEndian.Uint32(data[2:])
		data = data[FrameOverhead:]
		if payload > chain.MaxPayload {
			return fmt.Errorf("%w: frame %d says that its payload has %d bytes, the limit is %d",
				ErrMalformed, i, payload, chain.MaxPayload)
		}
		end := key + typ + int(payload)
		if end > len(data) {
			return fmt.Errorf("%w: frame %d is cut short: it says that it has %d bytes, %d are left",
				ErrMalformed, i, end, len(data))
		}
		if err := each(data[:key:key], data[key:key+typ:key+typ], data[key+typ:end:end]); err != nil {
			return err
		}
		data = data[end:]
	}
	return nil
}
