package links

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// httpCalls makes calls with net/http, with the headers of a forwarded submission.
type httpCalls struct {
	transport *http.Transport
	url       string
}

func (h *httpCalls) call(ctx context.Context, request []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	r.Header = http.Header{
		"Authorization": {"Bearer 0123456789abcdef0123456789abcdef"}, "Content-Type": {"application/octet-stream"},
		"Chainstore-Hops": {"1"}, "Chainstore-Caller": {"0123456789abcdef 1.7"}, "Idempotency-Key": {},
	}
	response, err := h.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// serveHTTP answers with the size that belongs to the request.
func serveHTTP(w http.ResponseWriter, r *http.Request) {
	request := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, request); err != nil {
		return
	}
	answer := make([]byte, answerSize(len(request)))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
	w.Write(answer)
}

// overHTTP connects with net/http.
func overHTTP(t testing.TB, serving net.Listener, server *http.Server, transport *http.Transport) caller {
	server.Handler = http.HandlerFunc(serveHTTP)
	go server.Serve(serving)
	transport.DisableCompression = true
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return &httpCalls{transport: transport, url: "http://" + serving.Addr().String() + "/internal/v1/append"}
}

func http1(t testing.TB, l net.Listener) caller {
	return overHTTP(t, l, &http.Server{}, &http.Transport{
		MaxIdleConnsPerHost: 64, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10,
	})
}

func http2(t testing.TB, l net.Listener) caller {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return overHTTP(t, sealedListener{l}, &http.Server{Protocols: &p}, &http.Transport{
		Protocols: &p,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return seal(c, true), nil
		},
	})
}

// bytesCodec passes bytes through gRPC as they are.
type bytesCodec struct{}

// Name implements grpc's CodecV2.
func (bytesCodec) Name() string { return "bytes" }

// Marshal implements grpc's CodecV2.
func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

// Unmarshal implements grpc's CodecV2.
func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

type grpcConn struct{ *grpc.ClientConn }

func (g grpcConn) call(ctx context.Context, request []byte) (answer []byte, err error) {
	err = g.Invoke(ctx, "/node/call", &request, &answer)
	return answer, err
}

func grpcCalls(t testing.TB, l net.Listener) caller {
	const window = 1 << 20
	server := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(4*window))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "node", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "call", Handler: serveGRPC}},
	}, struct{}{})
	go server.Serve(sealedListener{l})
	client, err := grpc.NewClient(l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(bytesCodec{})),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return seal(c, true), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Stop()
	})
	return grpcConn{client}
}

func serveGRPC(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	answer := make([]byte, answerSize(len(request)))
	return &answer, nil
}
