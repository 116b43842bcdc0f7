package exchange

import (
	"net"
	"net/http"
	"time"
)

// Send is [http.Client.Do], or [http.Transport.RoundTrip], which follows no redirect.
type Send func(*http.Request) (*http.Response, error)

// NewTransport returns a transport that keeps up to perHost idle connections to each address. It uses no proxy.
// Keep-alive probes find peers that vanished within about 15 seconds.
func NewTransport(dial time.Duration, perHost int) *http.Transport {
	dialer := &net.Dialer{
		Timeout:         dial,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3},
	}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConnsPerHost:   perHost,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
	}
}
