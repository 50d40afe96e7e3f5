package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// seal makes tokens that it alone can read: each names an account, when it was
// made, to the nanosecond so that no two are the same, and by a keyed hash the proof of the account's password, so that it ends
// when that changes and nothing need be kept of it. They are opaque to everybody
// else.
type seal struct {
	prefix string
	key    []byte
}

const timeSize = 8 // bytes

func (s seal) of(made time.Time, account string, proof []byte) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(made.UnixNano()))
	b = append(b, s.mac("proof", proof)...)
	b = append(b, account...)
	return s.prefix + base64.RawURLEncoding.EncodeToString(append(b, s.mac("token", b)...))
}

func (s seal) mac(of string, b []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(of + "\n"))
	m.Write(b)
	return m.Sum(nil)
}

// open returns whose a token is, and by which proof. One that another made, whose
// proof its account does not have any more, or that is older than life is none.
func (s seal) open(text string, now time.Time, life time.Duration, proofs func(account string) [][]byte) (account string, proof []byte, ok bool) {
	text, ok = strings.CutPrefix(text, s.prefix)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(b) < timeSize+2*sha256.Size {
		return "", nil, false
	}
	b, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(mac, s.mac("token", b)) {
		return "", nil, false
	}
	age := now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(b))))
	proved, account := b[timeSize:timeSize+sha256.Size], string(b[timeSize+sha256.Size:])
	all := proofs(account)
	i := slices.IndexFunc(all, func(proof []byte) bool { return hmac.Equal(proved, s.mac("proof", proof)) })
	if i < 0 || age < -Leeway || age > life {
		return "", nil, false
	}
	return account, all[i], true
}
