package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
)

// A refresh token stands for a password that was right: it names the account
// and when it was made, and is signed together with the account's proof, so
// that it ends when the password changes and nothing need be kept of it. It is
// opaque to clients, and no registry takes it.

const refreshPrefix = "ocisync1."

func (k *Keys) refresh(account string, proof []byte) string {
	made := binary.BigEndian.AppendUint64(nil, uint64(k.now().Unix()))
	b := append(append(made, account...), k.refreshMAC(made, account, proof)...)
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(b)
}

func (k *Keys) refreshMAC(made []byte, account string, proof []byte) []byte {
	k.mu.RLock()
	key, err := base64.StdEncoding.DecodeString(k.doc.Refresh)
	k.mu.RUnlock()
	if err != nil {
		return nil // looked at when the keys were opened
	}
	m := hmac.New(sha256.New, key)
	for _, part := range [][]byte{made, []byte(account), proof} {
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		m.Write(part)
	}
	return m.Sum(nil)
}

var errRefresh = errors.New("the refresh token is not valid, or not any more; log in again")

// refreshed returns whose refresh token that is.
func (s *Service) refreshed(text string) (account string, who access.Subject, proof []byte, err error) {
	body, ok := strings.CutPrefix(text, refreshPrefix)
	b, err := base64.RawURLEncoding.DecodeString(body)
	if !ok || err != nil || len(b) <= 8+sha256.Size {
		return "", who, nil, errRefresh
	}
	made, name, mac := b[:8], string(b[8:len(b)-sha256.Size]), b[len(b)-sha256.Size:]
	who, proof, known := s.o.Accounts.Find(name)
	age := s.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(made)), 0)) // ours, if the MAC is right
	if !hmac.Equal(mac, s.o.Keys.refreshMAC(made, name, proof)) || !known || age < -Leeway || age > RefreshLife {
		return "", who, nil, errRefresh
	}
	return name, who, proof, nil
}
