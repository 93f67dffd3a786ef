//! The name in a client certificate, which the handshake has checked against the authorities.

use tokio_rustls::rustls::pki_types::CertificateDer;

/// Its name: the one URI (as SPIFFE has it), else its first DNS name.
///
/// # Errors
/// Why it names nobody, or more than one.
pub(crate) fn name(certificate: &CertificateDer<'_>) -> Result<String, &'static str> {
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|_| "the client certificate cannot be read")?;
    let mut uris = certificate.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (Some(_), Some(_)) => Err("the client certificate has more than one URI: whose is it?"),
        (None, _) => {
            certificate.valid_dns_names().next().map(str::to_owned).ok_or("the client certificate names neither a URI nor a DNS name")
        }
    }
}
