package suite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// errGRPC: the server ended the connection, or said what the client does not understand.
var errGRPC = errors.New("gRPC connection broken")

const (
	// Of HTTP/2, RFC 9113: what holds until the peer's settings say otherwise.
	defaultWindow = 65_535
	maxFrame      = 16_384
	// ownWindow is what the client lets the server send before it has to say again that it may.
	ownWindow = 1 << 30
)

// grpcClient makes unary calls on one connection, one at a time. It is the least of HTTP/2 that does so, for the same reason
// that httpClient is the least of HTTP/1.1. One goroutine uses it.
type grpcClient struct {
	addr   string
	method string        // /package.Service/Method
	next   func() []byte // the next message, encoded, valid until the next call

	*socket
	frames *http2.Framer // reads the socket, writes to out
	out    bytes.Buffer
	header bytes.Buffer
	encode *hpack.Encoder
	stream uint32
	// Bytes that may be sent: on the connection, and on each new stream.
	window, streamWindow int64
	received             int // bytes of data since the server was last told that it may send more
}

func (c *grpcClient) connect(ctx context.Context) error {
	s, err := dialSocket(ctx, c.addr)
	if err != nil {
		return err
	}
	c.socket = s
	c.out.Reset()
	c.header.Reset()
	c.frames = http2.NewFramer(&c.out, s.in)
	c.frames.SetReuseFrames()
	c.frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encode = hpack.NewEncoder(&c.header)
	c.stream, c.window, c.streamWindow, c.received = 1, defaultWindow, defaultWindow, 0
	c.out.WriteString(http2.ClientPreface)
	if err := c.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: ownWindow}); err != nil {
		return err
	}
	if err := c.frames.WriteWindowUpdate(0, ownWindow); err != nil {
		return err
	}
	return c.flush()
}

func (c *grpcClient) until(t time.Time) error { return c.SetDeadline(t) }

func (c *grpcClient) flush() error {
	_, err := c.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// request makes one call; the error is a *refusal where it ended with a status other than OK.
func (c *grpcClient) request() error {
	message := c.next()
	size := int64(len(message) + 5)
	for c.window < size || c.streamWindow < size {
		if c.streamWindow < size && size > defaultWindow {
			return &refusal{fmt.Sprintf("a call of %d bytes is over what the server takes on a stream, %d", size, c.streamWindow)}
		}
		if _, err := c.step(); err != nil {
			return err
		}
	}
	c.window -= size
	if err := c.write(message); err != nil {
		return err
	}
	c.stream += 2
	for {
		done, err := c.step()
		if done || err != nil {
			return err
		}
	}
}

// write sends headers and message of a call on stream c.stream.
func (c *grpcClient) write(message []byte) error {
	c.header.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: c.method},
		{Name: ":authority", Value: c.addr}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	} {
		if err := c.encode.WriteField(f); err != nil {
			return err
		}
	}
	err := c.frames.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.stream, BlockFragment: c.header.Bytes(), EndHeaders: true,
	})
	if err != nil {
		return err
	}
	// A message on gRPC's wire: compressed u8 ‖ length u32 ‖ message.
	framed := binary.BigEndian.AppendUint32(append(make([]byte, 0, 5+len(message)), 0), uint32(len(message)))
	framed = append(framed, message...)
	for len(framed) > 0 {
		part := framed[:min(len(framed), maxFrame)]
		framed = framed[len(part):]
		if err := c.frames.WriteData(c.stream, len(framed) == 0, part); err != nil {
			return err
		}
	}
	return c.flush()
}

// step reads one frame and does what it asks for; done when it ended the call.
func (c *grpcClient) step() (done bool, err error) {
	frame, err := c.frames.ReadFrame()
	if err != nil {
		return false, err
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() {
			return true, status(f)
		}
	case *http2.DataFrame:
		if c.received += int(f.Header().Length); c.received > ownWindow/2 {
			if err := c.frames.WriteWindowUpdate(0, uint32(c.received)); err != nil {
				return false, err
			}
			c.received = 0
			return false, c.flush()
		}
	case *http2.SettingsFrame:
		if f.IsAck() {
			return false, nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			c.streamWindow = int64(v)
		}
		if err := c.frames.WriteSettingsAck(); err != nil {
			return false, err
		}
		return false, c.flush()
	case *http2.PingFrame:
		if !f.IsAck() {
			if err := c.frames.WritePing(true, f.Data); err != nil {
				return false, err
			}
			return false, c.flush()
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		}
	case *http2.RSTStreamFrame:
		return false, fmt.Errorf("%w: the server reset the call: %v", errGRPC, f.ErrCode)
	case *http2.GoAwayFrame:
		return false, fmt.Errorf("%w: the server goes away: %v %.100s", errGRPC, f.ErrCode, f.DebugData())
	}
	return false, nil
}

// status is the call's end: nil where it is OK.
func status(f *http2.MetaHeadersFrame) error {
	code, message := "missing", ""
	for _, h := range f.Fields {
		switch h.Name {
		case "grpc-status":
			code = h.Value
		case "grpc-message":
			message = h.Value
		}
	}
	if code == "0" {
		return nil
	}
	return &refusal{fmt.Sprintf("gRPC status %s: %.300s", code, message)}
}
