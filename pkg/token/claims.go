package token

import (
	"crypto/rand"
	"encoding/json"
	"time"
)

// claims are those of Distribution's tokens. The audience is one text:
// Distribution 2 takes no list.
type claims struct {
	Issuer    string  `json:"iss"`
	Subject   string  `json:"sub"`
	Audience  string  `json:"aud"`
	Expires   int64   `json:"exp"`
	NotBefore int64   `json:"nbf"`
	IssuedAt  int64   `json:"iat"`
	ID        string  `json:"jti"`
	Access    []Scope `json:"access"`
}

// skew is how far the registry's clock may be behind ours.
const skew = 10 * time.Second

// Token makes a token of a service for an account, "" for anonymous clients,
// and says when it was made.
func (k *Keys) Token(service, account string, granted []Scope) (text string, made time.Time, err error) {
	return k.token(service, account, granted, k.Current())
}

// probe is a token that allows nothing, signed by the next key.
func (k *Keys) probe(service string) (string, error) {
	k.mu.RLock()
	next := k.doc.Next
	k.mu.RUnlock()
	text, _, err := k.token(service, "", nil, next)
	return text, err
}

func (k *Keys) token(service, account string, granted []Scope, key string) (string, time.Time, error) {
	made := k.now().UTC().Truncate(time.Second)
	if granted == nil {
		granted = []Scope{}
	}
	b, err := json.Marshal(claims{
		Issuer: Issuer, Subject: account, Audience: service, ID: rand.Text(), Access: granted,
		Expires: made.Add(Life).Unix(), NotBefore: made.Add(-skew).Unix(), IssuedAt: made.Unix(),
	})
	if err != nil {
		return "", made, err
	}
	text, err := k.sign(b, key)
	return text, made, err
}
